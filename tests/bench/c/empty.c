/* The smallest process that a C compiler makes by itself: what everything else is compared with. */
int main(void)
{
    return 0;
}

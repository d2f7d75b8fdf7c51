/* A program that is not the agent, and uses the agent's phantom. */
#include "attack.h"

int main(int argc, char **argv)
{
    attack(argc ? argv[0] : "use");
    return 0;
}

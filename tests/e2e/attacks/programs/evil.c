/* A library that attacks as soon as something loads it, whatever for, and ends the program that it is in. */
#include "attack.h"

unsigned int la_version(unsigned int version)
{
    return version; /* so that the loader takes it for an auditor */
}

__attribute__((constructor)) static void begin(void)
{
    attack("evil library");
    _exit(0);
}

/*
 * The protocols that need more than their name and arguments: what else of its caller the shim sends.
 *
 * A protocol that is not listed here is sent with its arguments alone; whether it exists is the broker's
 * to say. stdin is read only where `reads_stdin` says so, because a terminal there would never end.
 * Environment variables are sent by name, never all of them.
 */
#ifndef AGENT_BROKER_PROTOCOLS_H
#define AGENT_BROKER_PROTOCOLS_H

static const struct protocol PROTOCOLS[] = {
    {.name = "claude-api-key-helper"},
    {.name = "get"},
};

#endif

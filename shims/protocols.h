/*
 * The protocols that need more than their name and arguments: what else of its caller the shim sends.
 *
 * A protocol that is not listed here is sent with its arguments alone; whether it exists is the broker's
 * to say. stdin is read only where `reads_stdin` says so, because a terminal there would never end.
 * Environment variables are sent by name, never all of them. `on_failure` is what a client must read on stdout so that
 * it asks nobody else when the broker said no, or nothing. `wait_seconds`: how long the broker may take.
 */
#ifndef AGENT_BROKER_PROTOCOLS_H
#define AGENT_BROKER_PROTOCOLS_H

static const char *const KUBECTL_ENVIRONMENT[] = {"KUBERNETES_EXEC_INFO", 0};

static const struct protocol PROTOCOLS[] = {
    {.name = "claude-api-key-helper"},
    {.name = "get"},
    {.name = "phantom"},
    {.name = "pnpm"}, /* by links of root's, pnpm@WHICH */
    /* Without an answer git asks the next helper, or a person: quit=1 ends that (git-credential(1)). */
    /* docker shows nothing of it; without words on stdout it would blame the helper. */
    {.name = "docker-credential-agent-broker", .reads_stdin = 1,
     .on_failure = "agent-broker gave no login; its reason: agent-broker alerts\n"},
    {.name = "keyring-backend", .reads_stdin = 1},
    /* cargo says this word and no other. Then each side says a line of JSON, we first (doc.rust-lang.org/cargo). */
    {.name = "--cargo-plugin", .reads_stdin = 1, .reads_line = 1, .greeting = "{\"v\":[1]}\n", .fails_in_words = 1,
     .on_failure = "{\"Err\":{\"kind\":\"other\",\"message\":\"agent-broker gave no token; its reason is above, "
                   "and in: agent-broker alerts\"}}\n"},
    /* AWS's STS may be a continent away, and an SDK waits for its helper without end. */
    {.name = "aws", .wait_seconds = 6},
    /* The cluster, as kubectl itself says it to its plugin. */
    {.name = "kubectl", .environment = KUBECTL_ENVIRONMENT},
    {.name = "az", .wait_seconds = 6}, /* the same of Microsoft's login; azure-identity waits for 10 s */
    {.name = "git", .reads_stdin = 1, .on_failure = "quit=1\n"},
};

#endif

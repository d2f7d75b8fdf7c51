/* A sample agent: one small native program that does what a coding agent does, for machines without a real one.
 *
 *     agent -p PROMPT       other options are accepted and ignored; --version prints the version
 *
 * It takes ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN from the "env" block of
 * ~/.claude/settings.json into its environment, which its tools inherit (ANTHROPIC_UNIX_SOCKET counts in the
 * environment only), opens ~/.claude/.credentials.json as the real one does, streams one model request, runs the Bash tool if the model says so, sends the result, and prints the answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_UP_NS 60000000L /* a real agent connects long after its exec: connections as old as it are refused */

struct text {
	char *bytes;
	size_t length;
};

static void fail(const char *what)
{
	fprintf(stderr, "sample agent: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
	exit(1);
}

static void append(struct text *text, const char *bytes, size_t length)
{
	text->bytes = realloc(text->bytes, text->length + length + 1);
	if (!text->bytes)
		fail("memory");
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = 0;
}

static void add(struct text *text, const char *string)
{
	append(text, string, strlen(string));
}

/* JSON, as much of it as the provider's messages need. */

static void add_json_string(struct text *out, const char *string)
{
	char escape[8];

	add(out, "\"");
	for (; *string; string++) {
		unsigned char c = *string;

		if (c == '"' || c == '\\')
			snprintf(escape, sizeof(escape), "\\%c", c);
		else if (c < 0x20)
			snprintf(escape, sizeof(escape), "\\u%04x", c);
		else
			snprintf(escape, sizeof(escape), "%c", c);
		add(out, escape);
	}
	add(out, "\"");
}

static void add_unescaped(struct text *out, const char **at)
{
	static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
	const char *known = strchr(from, **at);
	char byte;

	if (**at == 'u') { /* the sample needs ASCII only; others become '?' */
		unsigned int code = 0;

		sscanf(*at + 1, "%4x", &code);
		byte = code && code < 0x80 ? (char)code : '?';
		*at += strnlen(*at, 4);
	} else {
		byte = known && **at ? to[known - from] : **at;
	}
	append(out, &byte, 1);
}

/* The string value of the first "key" after `json`; false if there is none. */
static bool find_string(const char *json, const char *key, struct text *value)
{
	char quoted[64];
	const char *at = json;

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	at = json ? strstr(json, quoted) : NULL;
	if (!at)
		return false;
	at += strlen(quoted);
	at += strspn(at, " \t\r\n:");
	if (*at++ != '"')
		return false;
	add(value, "");
	for (; *at && *at != '"'; at++) {
		if (*at == '\\' && at[1]) {
			at++;
			add_unescaped(value, &at);
		} else {
			append(value, at, 1);
		}
	}
	return true;
}

static struct text read_all(int fd)
{
	struct text all = { 0 };
	char buffer[65536];
	ssize_t got;

	add(&all, "");
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		append(&all, buffer, got);
	return all;
}

static struct text read_in_home(const char *name)
{
	char path[4096];
	struct text content = { 0 };
	int fd;

	snprintf(path, sizeof(path), "%s/.claude/%s", getenv("HOME") ? getenv("HOME") : "", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return content;
	content = read_all(fd);
	close(fd);
	return content;
}

static void take_environment(const char *settings)
{
	static const char *const names[] = { "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct text value = { 0 };

		if (find_string(settings, names[i], &value))
			setenv(names[i], value.bytes, 1);
	}
}

static void add_header(struct text *request, const char *head, const char *variable)
{
	const char *value = getenv(variable);

	if (!value || !*value)
		return;
	add(request, head);
	add(request, value);
	add(request, "\r\n");
}

/* HTTP: one connection a request. */

static int connect_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail(path);
	return fd;
}

static int connect_tcp(const char *base_url)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int port = 80;

	if (sscanf(base_url, "http://127.0.0.1:%u", &port) != 1)
		fail("ANTHROPIC_BASE_URL is not http://127.0.0.1:PORT");
	address.sin_port = htons(port);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail(base_url);
	return fd;
}

static void send_all(int fd, const struct text *text)
{
	for (size_t sent = 0; sent < text->length;) {
		ssize_t now = send(fd, text->bytes + sent, text->length - sent, MSG_NOSIGNAL);

		if (now < 0)
			return; /* the answer may say why */
		sent += now;
	}
}

/* The answer's body; `status` gets its status. Chunks are joined; an answer that breaks off ends the agent. */
static struct text exchange(const char *line, const char *body, int *status)
{
	const char *path = getenv("ANTHROPIC_UNIX_SOCKET"), *base_url = getenv("ANTHROPIC_BASE_URL");
	int fd = path ? connect_unix(path) : connect_tcp(base_url ? base_url : "");
	struct text request = { 0 }, answer, whole = { 0 };
	char length[64], *at;

	snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", strlen(body));
	add(&request, line);
	add(&request, " HTTP/1.1\r\nHost: api\r\nConnection: close\r\nContent-Type: application/json"
		      "\r\nanthropic-version: 2023-06-01\r\nUser-Agent: sample-agent/1");
	add(&request, length);
	if (*body) {
		add_header(&request, "x-api-key: ", "ANTHROPIC_API_KEY");
		add_header(&request, "Authorization: Bearer ", "ANTHROPIC_AUTH_TOKEN");
	}
	add(&request, "\r\n");
	add(&request, body);
	send_all(fd, &request);
	answer = read_all(fd);
	close(fd);
	errno = 0;
	if (sscanf(answer.bytes, "HTTP/1.1 %d", status) != 1 || !(at = strstr(answer.bytes, "\r\n\r\n")))
		fail("the provider closed the connection");
	*at = 0;
	at += 4;
	if (!strcasestr(answer.bytes, "transfer-encoding: chunked"))
		return (struct text){ at, strlen(at) };
	for (;;) {
		size_t size = strtoul(at, &at, 16);

		if (!size)
			break;
		if (strncmp(at, "\r\n", 2) || (size_t)(answer.bytes + answer.length - at) < size + 4)
			fail("the provider broke off");
		append(&whole, at + 2, size);
		at += size + 4;
	}
	if (strncmp(at, "\r\n", 2))
		fail("the provider broke off");
	add(&whole, "");
	return whole;
}

static struct text run_tool(const char *command)
{
	int out[2];
	struct text output;
	pid_t child;

	if (pipe2(out, O_CLOEXEC) || (child = fork()) < 0)
		fail("tool");
	if (!child) {
		dup2(out[1], 1);
		dup2(out[1], 2);
		setenv("CLAUDECODE", "1", 1);
		execl("/bin/bash", "/bin/bash", "-c", command, NULL);
		_exit(127);
	}
	close(out[1]);
	output = read_all(out[0]);
	close(out[0]);
	waitpid(child, NULL, 0);
	return output;
}

/* All deltas of the stream that have this key, joined. */
static bool collect(const char *stream, const char *type, const char *key, struct text *joined)
{
	bool found = false;

	add(joined, "");
	while ((stream = strstr(stream, type))) {
		found |= find_string(stream, key, joined);
		stream += strlen(type);
	}
	return found;
}

static struct text first_request(const char *prompt)
{
	struct text body = { 0 };

	add(&body, "{\"model\":\"sample\",\"max_tokens\":1024,\"stream\":true,"
		   "\"tools\":[{\"name\":\"Bash\",\"input_schema\":{\"type\":\"object\"}}],"
		   "\"messages\":[{\"role\":\"user\",\"content\":");
	add_json_string(&body, prompt);
	add(&body, "}");
	return body;
}

static struct text ask(const struct text *messages)
{
	struct text body = { 0 }, answer;
	int status = 0;

	append(&body, messages->bytes, messages->length);
	add(&body, "]}");
	answer = exchange("POST /v1/messages?beta=true", body.bytes, &status);
	if (status == 200)
		return answer;
	printf("API Error: %d %s\n", status, answer.bytes);
	exit(1);
}

int main(int argc, char **argv)
{
	struct text settings = read_in_home("settings.json"), input = { 0 }, answer = { 0 };
	struct text messages, stream;
	const char *prompt = "";
	int status = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--version"))
			return puts("1.0.0 (sample agent)") < 0;
		if (!strcmp(argv[i], "-p") && i + 1 < argc)
			prompt = argv[++i];
	}
	if (settings.bytes)
		take_environment(settings.bytes);
	free(read_in_home(".credentials.json").bytes);
	nanosleep(&(struct timespec){ .tv_nsec = START_UP_NS }, NULL);
	exchange("HEAD /api/hello", "", &status);
	messages = first_request(prompt);
	stream = ask(&messages);
	if (collect(stream.bytes, "\"input_json_delta\"", "partial_json", &input)) {
		struct text command = { 0 }, output;

		find_string(input.bytes, "command", &command);
		output = run_tool(command.bytes ? command.bytes : "");
		add(&messages, ",{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"toolu_mock1\",\"name\":\"Bash\",\"input\":");
		add(&messages, input.bytes);
		add(&messages, "}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_mock1\",\"content\":");
		add_json_string(&messages, output.bytes);
		add(&messages, "}]}");
		stream = ask(&messages);
	}
	collect(stream.bytes, "\"text_delta\"", "text", &answer);
	puts(answer.bytes);
	return 0;
}

/*
 * The frame of agent.sock, the shim's half: composes requests, takes answers apart.
 * Mirrors broker/agent_broker/transport/frame.py; tests/unit/test_shim.py runs one against the other.
 *
 * A frame is one SEQPACKET message, little-endian: magic, u16 version, u16 type, u32 length of what
 * follows; then fields in ascending order of their tags: u16 tag, u16 length, value. The header has this
 * layout in every version.
 */
#ifndef AGENT_BROKER_FRAME_H
#define AGENT_BROKER_FRAME_H

#include <stdint.h>

#define MAX_FRAME_BYTES 65536
#define HEADER_BYTES 12
#define FIELD_HEADER_BYTES 4
#define FRAME_VERSION 1

enum frame_type { REQUEST = 1, ANSWER = 2, VERSIONS = 3, CHALLENGE = 4, CONFIRM = 5 };

enum tag {
    TAG_PROTOCOL = 1,
    TAG_ARGUMENT = 2,
    TAG_STDIN = 3,
    TAG_ENVIRONMENT = 4,
    TAG_EXIT_CODE = 16,
    TAG_STDOUT = 17,
    TAG_STDERR = 18,
};

static const unsigned char MAGIC[4] = {'A', 'B', 'R', 'K'};

static inline void put_u16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

static inline void put_u32(unsigned char *at, uint32_t value)
{
    put_u16(at, value & 0xffff);
    put_u16(at + 2, value >> 16);
}

static inline unsigned get_u16(const unsigned char *at)
{
    return (unsigned)at[0] | (unsigned)at[1] << 8;
}

static inline uint32_t get_u32(const unsigned char *at)
{
    return get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
}

/* Writes the header of a frame that is `size` bytes long in all. */
static inline void put_header(unsigned char *frame, enum frame_type type, size_t size)
{
    memcpy(frame, MAGIC, sizeof MAGIC);
    put_u16(frame + 4, FRAME_VERSION);
    put_u16(frame + 6, type);
    put_u32(frame + 8, (uint32_t)(size - HEADER_BYTES));
}

/* Appends one field at `used`; returns the new end, or 0 if the frame would be too long. */
static size_t put_field(unsigned char *frame, size_t used, enum tag tag, const void *value, size_t length)
{
    if (length > MAX_FRAME_BYTES - FIELD_HEADER_BYTES - used)
        return 0;
    put_u16(frame + used, tag);
    put_u16(frame + used + 2, (unsigned)length);
    memcpy(frame + used + FIELD_HEADER_BYTES, value, length);
    return used + FIELD_HEADER_BYTES + length;
}

struct answer {
    int exit_code;
    const unsigned char *out, *err;
    size_t out_bytes, err_bytes;
};

/* The type of a frame, or -1 if these bytes are none. */
static int frame_type_of(const unsigned char *frame, size_t size)
{
    if (size < HEADER_BYTES || memcmp(frame, MAGIC, sizeof MAGIC) != 0)
        return -1;
    if (get_u32(frame + 8) != size - HEADER_BYTES)
        return -1;
    int type = (int)get_u16(frame + 6);
    if (get_u16(frame + 4) != FRAME_VERSION && type != VERSIONS)
        return -1;
    return type;
}

/* Points `answer` into the frame. False: not an answer as this version writes it. */
static _Bool take_answer(const unsigned char *frame, size_t size, struct answer *answer)
{
    size_t at = HEADER_BYTES;
    unsigned previous = 0;
    *answer = (struct answer){.exit_code = -1};
    while (at < size) {
        if (size - at < FIELD_HEADER_BYTES)
            return 0;
        unsigned tag = get_u16(frame + at), length = get_u16(frame + at + 2);
        const unsigned char *value = frame + at + FIELD_HEADER_BYTES;
        at += FIELD_HEADER_BYTES;
        if (length > size - at || tag <= previous)
            return 0;
        at += length;
        previous = tag;
        if (tag == TAG_EXIT_CODE && length == 1) {
            answer->exit_code = value[0];
        } else if (tag == TAG_STDOUT) {
            answer->out = value;
            answer->out_bytes = length;
        } else if (tag == TAG_STDERR) {
            answer->err = value;
            answer->err_bytes = length;
        } else {
            return 0;
        }
    }
    return answer->exit_code >= 0;
}

#endif

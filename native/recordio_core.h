/* RecordIO-protobuf: frames with one Record message each, to rows.
 *
 * What is read here is what nearly all streams are: whole records of one tensor "values" and one label "values", laid
 * out as Amazon's writers do. A run of them that are of one kind becomes rows. Whatever is laid out in another way, or
 * is wrong, ends the run and is left to the NumPy twin and the protobuf library.
 */
#ifndef CLARY_RECORDIO_CORE_H
#define CLARY_RECORDIO_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) /* the loop over keys is the hottest: nothing in it is called, and it has all registers */
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))
#else
#define INLINE static inline
#define APART static
#endif

enum { NONE, FLOAT32, FLOAT64, INT32 }; /* kinds of tensor; clary.recordio.wire has the same numbers */
enum { FRAME_HEADER = 8, LARGEST_PAYLOAD = (1 << 29) - 1 };
enum { LONGEST_LENGTH = 5, LONGEST_VARINT = 10 }; /* bytes */
static const uint32_t FRAME_MAGIC = 0xCED7230A;

/* What is read; passed by value, so that no write makes the compiler look at it again. */
typedef struct {
    const uint8_t *bytes;
    size_t size;
} Block;

/* Numbers of a record, packed: where they are, and how many bytes. */
typedef struct {
    size_t at, size;
} Packed;

typedef struct {
    int kind;
    Packed values, keys;
    int64_t shape; /* the one size of the shape; -1 where there is no shape */
} Tensor;

/* What all records of a run have in common. */
typedef struct {
    int kind, label_kind; /* a label without numbers is none */
    bool sparse;
    int64_t shape;
    size_t count, label_count; /* numbers of each row; of the features where they are dense */
    size_t place, stride;      /* of dense floats: where in the first frame they begin, and the size of every frame */
} Form;

typedef struct {
    Block block;
    size_t most_rows, most_values, most_labels;
    uint8_t *labels;  /* most_labels numbers of any kind, of up to 8 bytes each */
    int64_t *borders; /* most_rows + 1; of sparse rows */
    int64_t *indices; /* most_values; of sparse rows */
    uint8_t *values;  /* most_values numbers of any kind; of rows that are sparse or have integers */
    /* what has been read */
    size_t rows, count, end;
    Form form;
} RecordRows;

static inline size_t item_size(int kind) { return kind == FLOAT64 ? 8 : 4; }

INLINE uint32_t load_word(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Up to eight bytes from `at` on, the first one lowest, and zeros where the block is at its end. */
INLINE uint64_t load_eight(Block block, size_t at) {
    uint64_t word = 0;
    if (block.size - at >= 8)
        return (uint64_t)load_word(block.bytes + at) | (uint64_t)load_word(block.bytes + at + 4) << 32;
    for (size_t i = at; i < block.size; i++)
        word |= (uint64_t)block.bytes[i] << (8 * (i - at));
    return word;
}

/* The number in the first five bytes of a varint, of which the word has no more. */
INLINE uint64_t five_groups(uint64_t word) {
    return (word & 0x7F) | (word >> 1 & 0x3F80) | (word >> 2 & 0x1FC000) | (word >> 3 & 0xFE00000) |
           (word >> 4 & 0x7F0000000);
}

/* Read a varint of up to five bytes, *at being inside the block, and move on; false where it is longer. It may reach
 * beyond what it belongs to, even beyond the block, where *at then stands. */
INLINE bool short_varint(Block block, size_t *at, uint64_t *number) {
    uint64_t word = load_eight(block, *at);
    if (!(word & 0x80)) { /* these branches are foreseen, unlike a step of unknown length */
        *number = word & 0x7F;
        *at += 1;
    } else if (!(word & 0x8000)) {
        *number = five_groups(word & 0x7FFF);
        *at += 2;
    } else if (!(word & 0x800000)) {
        *number = five_groups(word & 0x7FFFFF);
        *at += 3;
    } else if (!(word & 0x80000000)) {
        *number = five_groups(word & 0x7FFFFFFF);
        *at += 4;
    } else {
        *number = five_groups(word & 0x7FFFFFFFFF);
        *at += LONGEST_LENGTH;
        return !(word & 0x8000000000);
    }
    return true;
}

/* Step over a tag and the length that follows it; *inner is where what has that length ends. */
static inline bool nested(Block block, uint8_t tag, size_t end, size_t *at, size_t *inner) {
    uint64_t length;
    if (*at >= end || block.bytes[*at] != tag || ++*at >= end)
        return false;
    if (!short_varint(block, at, &length) || *at > end || length > end - *at)
        return false;
    *inner = *at + (size_t)length;
    return true;
}

/* A packed field, which may be missing. */
static inline bool packed(Block block, uint8_t tag, size_t end, size_t *at, Packed *found) {
    size_t inner;
    *found = (Packed){0, 0};
    if (*at == end || block.bytes[*at] != tag)
        return true;
    if (!nested(block, tag, end, at, &inner))
        return false;
    *found = (Packed){*at, inner - *at};
    *at = inner;
    return true;
}

static inline int kind_of(uint8_t tag) { /* of the fields of Value */
    return tag == 0x12 ? FLOAT32 : tag == 0x1A ? FLOAT64 : tag == 0x3A ? INT32 : NONE;
}

/* Read a map entry with the key "values" and a tensor for value, and nothing else. */
static bool entry(Block block, uint8_t tag, size_t end, size_t *at, Tensor *tensor) {
    static const uint8_t key[8] = "\x0A\x06values";
    size_t inner, value;
    if (!nested(block, tag, end, at, &end) || end - *at <= sizeof key || memcmp(block.bytes + *at, key, sizeof key))
        return false;
    *at += sizeof key;
    if (!nested(block, 0x12, end, at, &value) || value != end || *at == end)
        return false;
    uint8_t field = block.bytes[*at];
    tensor->kind = kind_of(field);
    if (tensor->kind == NONE || !nested(block, field, end, at, &inner) || inner != end)
        return false;
    Packed shape;
    if (!packed(block, 0x0A, end, at, &tensor->values) || !packed(block, 0x12, end, at, &tensor->keys))
        return false;
    tensor->shape = -1;
    if (*at == end)
        return true;
    uint64_t size;
    if (!packed(block, 0x1A, end, at, &shape) || *at != end || !shape.size)
        return false;
    if (!short_varint(block, &shape.at, &size) || shape.at != end) /* more dimensions are another layout */
        return false;
    tensor->shape = (int64_t)size;
    return true;
}

/* Find the tensors of a record. */
static bool tensors_in(Block block, size_t at, size_t end, Tensor *features, Tensor *label) {
    *label = (Tensor){.kind = NONE};
    if (!entry(block, 0x0A, end, &at, features))
        return false;
    if (at == end)
        return true;
    if (!entry(block, 0x12, end, &at, label) || at != end || label->keys.size || label->shape >= 0)
        return false;
    if (!label->values.size)
        label->kind = NONE;
    return true;
}

/* Read packed integers; negative ones are sign-extended to ten bytes, of which the first five say all. */
APART bool integers(Block block, Packed from, uint8_t *to, size_t most, size_t *count) {
    size_t at = from.at, end = from.at + from.size;
    for (*count = 0; at < end; ++*count) {
        size_t start = at;
        uint64_t number;
        if (*count == most)
            return false;
        bool ended = short_varint(block, &at, &number);
        while (!ended) {
            if (at >= end || at - start == LONGEST_VARINT)
                return false;
            ended = block.bytes[at++] < 0x80;
        }
        uint32_t low = (uint32_t)number;
        memcpy(to + 4 * *count, &low, 4);
    }
    return at == end;
}

/* Copy a tensor's values to where `most` are possible. */
static bool numbers(Block block, const Tensor *from, uint8_t *to, size_t most, size_t *count) {
    size_t item = item_size(from->kind);
    if (from->kind == INT32)
        return integers(block, from->values, to, most, count);
    *count = from->values.size / item;
    if (from->values.size % item || *count > most)
        return false;
    memcpy(to, block.bytes + from->values.at, from->values.size);
    return true;
}

/* Read exactly `count` keys, all below the width. */
APART bool keys(Block block, Packed from, size_t count, uint64_t width, int64_t *restrict to) {
    size_t at = from.at, end = from.at + from.size;
    bool outside = false;
    for (size_t i = 0; i < count; i++) {
        uint64_t key;
        if (at >= end || !short_varint(block, &at, &key))
            return false;
        outside |= key >= width;
        to[i] = (int64_t)key;
    }
    return at == end && !outside;
}

/* What can be told of a record's form before its numbers are read. */
static inline Form form_of(const Tensor *features, const Tensor *label, size_t start, size_t stride) {
    Form form = {.kind = features->kind, .label_kind = label->kind, .shape = features->shape};
    form.sparse = features->keys.size || (!features->values.size && features->shape >= 0);
    if (!form.sparse && form.kind != INT32) {
        form.place = features->values.at - start;
        form.stride = stride;
    }
    return form;
}

static inline bool alike(const Form *one, const Form *other) {
    return one->kind == other->kind && one->label_kind == other->label_kind && one->sparse == other->sparse &&
           one->shape == other->shape && one->place == other->place && one->stride == other->stride;
}

/* Add a record's numbers to the rows; false where they are wrong, too many, or not as many as in the rows before. What
 * has then been written lies behind those rows. */
static bool take_record(RecordRows *rows, Form form, const Tensor *features, const Tensor *label) {
    size_t labels = rows->rows * rows->form.label_count, count = 0;
    if (rows->rows == rows->most_rows || (rows->rows && !alike(&form, &rows->form)))
        return false;
    if (form.label_kind != NONE && !numbers(rows->block, label, rows->labels + labels * item_size(form.label_kind),
                                            rows->most_labels - labels, &form.label_count))
        return false;
    if (form.place) {
        form.count = features->values.size / item_size(form.kind);
        if (features->values.size % item_size(form.kind))
            return false;
    } else if (!numbers(rows->block, features, rows->values + rows->count * item_size(form.kind),
                        rows->most_values - rows->count, &count))
        return false;
    else if (!form.sparse)
        form.count = count;
    if (form.sparse) {
        if (form.shape < 0 || !keys(rows->block, features->keys, count, (uint64_t)form.shape, rows->indices + rows->count))
            return false;
    } else if (!form.count || (form.shape >= 0 && (uint64_t)form.shape != form.count))
        return false;
    if (rows->rows && (form.count != rows->form.count || form.label_count != rows->form.label_count))
        return false;
    rows->form = form;
    rows->count += count;
    rows->borders[++rows->rows] = (int64_t)rows->count;
    return true;
}

/* Take the records after the first that differ from it in nothing but floats and padding, which can be seen without
 * reading them; where the others begin. The first one ends with the label's numbers, where there are any. */
static size_t take_same(RecordRows *rows, size_t start, const Tensor *features, const Tensor *label) {
    const Form form = rows->form;
    const uint8_t *first = rows->block.bytes + start;
    size_t head = form.place, numbers_end = features->values.at + features->values.size - start;
    size_t length = load_word(first + 4) + FRAME_HEADER, label_size = label->values.size;
    size_t tail = length - label_size - numbers_end, at = start + form.stride;
    size_t most = form.label_count ? rows->most_labels / form.label_count : rows->most_rows;
    if (most > rows->most_rows)
        most = rows->most_rows;
    for (; rows->rows < most && rows->block.size - at >= form.stride; at += form.stride) {
        const uint8_t *record = rows->block.bytes + at;
        if (memcmp(record, first, head) || memcmp(record + numbers_end, first + numbers_end, tail))
            break;
        if (label_size == 4) /* with a size that is known, this is one instruction */
            memcpy(rows->labels + rows->rows * 4, record + length - 4, 4);
        else
            memcpy(rows->labels + rows->rows * label_size, record + length - label_size, label_size);
        rows->borders[++rows->rows] = 0;
    }
    return at;
}

/* Read the records from `at` on, which is a multiple of four, up to the first that is not like the one before; whether
 * there are any. */
static bool recordio_run(RecordRows *rows, size_t at) {
    const Block block = rows->block;
    rows->rows = rows->count = 0;
    rows->form = (Form){0};
    rows->borders[0] = 0;
    rows->end = at;
    while (at < block.size && block.size - at >= FRAME_HEADER && load_word(block.bytes + at) == FRAME_MAGIC) {
        size_t length = load_word(block.bytes + at + 4), stride = FRAME_HEADER + ((length + 3) & ~(size_t)3);
        if (length > LARGEST_PAYLOAD || stride > block.size - at) /* a part of a record has more than a length there */
            break;
        Tensor features, label;
        size_t payload = at + FRAME_HEADER;
        if (!tensors_in(block, payload, payload + length, &features, &label))
            break;
        if (!take_record(rows, form_of(&features, &label, at, stride), &features, &label))
            break;
        bool last = !label.values.size || label.values.at + label.values.size == payload + length;
        if (rows->rows == 1 && rows->form.place && label.kind != INT32 && last)
            at = take_same(rows, at, &features, &label);
        else
            at += stride;
        rows->end = at;
    }
    return rows->rows > 0;
}

#endif

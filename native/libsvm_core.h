/* libsvm: lines of a label and pairs column:value, to float32 in compressed rows.
 *
 * What is read here is what nearly all files are. Weights, query numbers, comments and whatever is wrong are left to
 * the NumPy twin.
 */
#ifndef CLARY_LIBSVM_CORE_H
#define CLARY_LIBSVM_CORE_H

#include "decimal.h"

enum { LONGEST_COLUMN = 15 }; /* digits */
static const int64_t LARGEST_COLUMN = 999999999999999;

typedef struct {
    int64_t first;  /* number of the first column */
    int64_t columns; /* how many there may be; -1 for any number */
    bool labelled;  /* whether every row begins with a label; without, a row may, and has NaN where it does not */
    size_t most_rows, most_values;
    float *labels;    /* rows */
    int64_t *borders; /* rows + 1 */
    int64_t *indices; /* values */
    float *values;
    /* what has been read */
    size_t rows, count;
    int64_t width; /* one more than the largest column */
} LibsvmRows;

INLINE bool is_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r'; }

/* Where what is no space begins, be it a newline; *at is where a space may be. */
INLINE size_t beyond_spaces(Marks *marks, size_t at) {
    while (is_space(marks->text[at]))
        at = next_mark(marks) + 1;
    return at;
}

/* The number that begins at some place, up to a byte that ends it; whether there is one. */
INLINE bool libsvm_number(Marks *marks, const uint8_t *ends, size_t start, size_t *stop, float *number) {
    const uint8_t *text = marks->text;
    *stop = next_mark(marks);
    if (plain_number(marks, ends, start, stop, number))
        return true;
    while (!ends[text[*stop]])
        *stop = next_mark(marks);
    return any_number(text + start, text + *stop, number);
}

/* The integer that digits spell, from `at` on. */
INLINE int64_t column_number(const uint8_t *text, size_t at, size_t stop) {
    if (at >= REACH)
        return (int64_t)long_integer(text + stop, stop - at, stop - at);
    int64_t number = 0;
    while (at < stop)
        number = number * 10 + (text[at++] - '0');
    return number;
}

/* Read a pair of which the column stands between `at` and the mark *stop; false where it is none. */
INLINE bool libsvm_pair(LibsvmRows *rows, Marks *marks, const uint8_t *ends, size_t at, size_t *stop) {
    size_t length = *stop - at;
    if (marks->text[*stop] != ':' || length - 1 >= LONGEST_COLUMN || rows->count == rows->most_values)
        return false;
    int64_t index = column_number(marks->text, at, *stop) - rows->first;
    if (index < 0 || (rows->columns >= 0 && index >= rows->columns))
        return false;
    if (index >= rows->width)
        rows->width = index + 1;
    rows->indices[rows->count] = index;
    return libsvm_number(marks, ends, *stop + 1, stop, &rows->values[rows->count++]) && marks->text[*stop] != ':';
}

/* Read a row, which begins at `at` with no space; where the next line begins, or 0 where anything is unusual. */
INLINE size_t libsvm_row(LibsvmRows *rows, Marks *marks, const uint8_t *ends, size_t at) {
    const uint8_t *text = marks->text;
    const Marks before = *marks;
    size_t stop = next_mark(marks);
    float *label = &rows->labels[rows->rows++];
    if (text[stop] == ':' && !rows->labelled) {
        *label = NAN;
        if (!libsvm_pair(rows, marks, ends, at, &stop))
            return 0;
    } else {
        *marks = before;
        if (!libsvm_number(marks, ends, at, &stop, label) || text[stop] == ':')
            return 0;
    }
    while (text[stop] != '\n') {
        at = beyond_spaces(marks, stop + 1);
        stop = next_mark(marks);
        if (stop == at && text[stop] == '\n')
            break;
        if (!libsvm_pair(rows, marks, ends, at, &stop))
            return 0;
    }
    rows->borders[rows->rows] = (int64_t)rows->count;
    return stop + 1;
}

/* Read all rows of a text that ends with a newline; false where anything in it is unusual. */
INLINE bool libsvm_parse(const uint8_t *text, size_t size, LibsvmRows *rows) {
    uint8_t ends[256] = {0};
    ends[' '] = ends['\t'] = ends['\r'] = ends['\n'] = ends[':'] = 1;
    Marks marks = marks_in(text, size);
    rows->rows = rows->count = 0;
    rows->width = 0;
    rows->borders[0] = 0;
    for (size_t at = 0; at < size;) {
        if (text[at] == '\n' || is_space(text[at])) {
            at = next_mark(&marks) + 1;
            continue;
        }
        if (rows->rows == rows->most_rows || !(at = libsvm_row(rows, &marks, ends, at)))
            return false;
    }
    return true;
}

#endif

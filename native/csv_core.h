/* CSV: lines of numbers with a delimiter between them, to float32.
 *
 * What is read here is what nearly all files are: numbers, spaces around them, cells with nothing, empty lines, either
 * line end. Anything else, a wrong number too, is left to the NumPy twin.
 */
#ifndef CLARY_CSV_CORE_H
#define CLARY_CSV_CORE_H

#include "decimal.h"

typedef struct {
    size_t rows; /* no more than these */
    size_t width; /* of the first row; 0 where there is none */
} CsvShape;

typedef struct {
    size_t rows, width;
    size_t labels; /* so many of the first columns */
    float *label, *feature; /* where to: rows × labels, rows × (width - labels) */
} CsvTable;

/* Size of the line end at some place: 0, 1, or 2 for a carriage return too. The text ends with a newline. */
INLINE size_t line_end(const uint8_t *at) { return *at == '\n' ? 1 : *at == '\r' && at[1] == '\n' ? 2 : 0; }

/* The shape of the table in a text that ends with a newline. Each row takes its cells from what there is of
 * delimiters and newlines, so the table is never larger than the text has bytes. */
static CsvShape csv_shape_of(const uint8_t *text, size_t size, uint8_t delimiter) {
    CsvShape shape = {0, 0};
    size_t start = 0;
    while (start < size && line_end(text + start))
        start += line_end(text + start);
    if (start == size)
        return shape;
    const uint8_t *end = memchr(text + start, '\n', size - start);
    size_t inside = (size_t)(end - text) - start;
    size_t beyond = size - start - inside;
    shape.width = occurrences(text + start, inside, delimiter) + 1;
    size_t cells = shape.width; /* of one row, as requests often are */
    if (beyond > 1)
        cells += occurrences(end + 1, beyond - 1, delimiter) + occurrences(end + 1, beyond - 1, '\n');
    shape.rows = cells / shape.width;
    return shape;
}

/* A cell that is no plain number: with spaces or an exponent, or empty, which is NaN. */
static bool other_cell(const uint8_t *start, const uint8_t *stop, float *number) {
    while (start < stop && (*start == ' ' || *start == '\t'))
        start++;
    while (start < stop && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;
    *number = NAN;
    return start == stop || any_number(start, stop, number);
}

/* Read all rows of a text that ends with a newline: their number, or -1 where anything in it is unusual. */
INLINE ptrdiff_t csv_parse(const uint8_t *text, size_t size, uint8_t delimiter, const CsvTable *table) {
    uint8_t ends[256] = {0};
    ends['\n'] = ends['\r'] = ends[delimiter] = 1;
    Marks marks = marks_in(text, size);
    size_t at = 0, rows = 0;
    const size_t width = table->width, labels = table->labels;
    float *label = table->label, *feature = table->feature;
    while (at < size) {
        size_t end = line_end(text + at);
        if (end) {
            at += end;
            while (end--)
                next_mark(&marks);
            continue;
        }
        if (rows++ == table->rows)
            return -1;
        float *to = label, *converted = label; /* from there to `to`: short_digits */
        size_t left = labels, later = width - labels, stop;
        do {
            if (!left) {
                if (!later)
                    return -1;
                label = to;
                to = converted = feature;
                left = later;
                later = 0;
            }
            left--;
            stop = next_mark(&marks);
            /* Short integers, as most cells of images are, wait for one that is none, or is the last on its side. */
            if (left && text[stop] == delimiter && stop - at - 1 < 4 && at >= REACH) {
                const uint32_t word = short_digits(text + stop, stop - at);
                memcpy(to, &word, sizeof word);
            } else {
                if (converted < to)
                    convert_short(converted, to);
                converted = to + 1;
                if (!plain_number(&marks, ends, at, &stop, to)) {
                    while (!ends[text[stop]])
                        stop = next_mark(&marks);
                    if (!other_cell(text + at, text + stop, to))
                        return -1;
                }
            }
            to++;
            at = stop + 1;
        } while (text[stop] == delimiter);
        if (left || later)
            return -1;
        feature = to;
        if (text[stop] == '\r' && (at = next_mark(&marks) + 1) != stop + 2)
            return -1;
        if (text[at - 1] != '\n')
            return -1;
    }
    return (ptrdiff_t)rows;
}

#endif

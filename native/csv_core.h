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

/* Runs of short integers, as most cells of images are: of 64 bytes, all numbers that may end there are made at once, and
 * those before a delimiter are taken. */

/* Bytes; digits of a number, all of which are in memory where it ends; so many numbers are worth it. */
enum { WINDOW = 64, SHORTEST = 3, FEWEST = 4 };

/* Which bytes of a window are this one. */
INLINE uint64_t places_of(const uint8_t *at, uint8_t byte) {
    uint64_t mask = 0;
#ifdef __SSE2__
    for (int i = 0; i < 4; i++) {
        __m128i same = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(at + 16 * i)), _mm_set1_epi8((char)byte));
        mask |= (uint64_t)(uint16_t)_mm_movemask_epi8(same) << (16 * i);
    }
#else
    const uint64_t low = 0x7F7F7F7F7F7F7F7Fu, bytes = byte * 0x0101010101010101u;
    for (int i = 0; i < 8; i++) {
        uint64_t word = little_endian(at + 8 * i) ^ bytes;            /* zero in the bytes that are looked for */
        uint64_t high = ~(((word & low) + low) | word) & ~low;        /* 0x80 in those */
        mask |= ((high >> 7) * 0x0102040810204080u >> 56) << (8 * i); /* one bit of each */
    }
#endif
    return mask;
}

/* The integers of up to three digits that end before each byte of a window, where one does. */
INLINE void integers_before(const uint8_t *window, float *numbers) {
    for (int i = 0; i < WINDOW; i++) {
        const uint8_t ones = (uint8_t)(window[i - 1] - '0'), tens = (uint8_t)(window[i - 2] - '0'),
                      hundreds = (uint8_t)(window[i - 3] - '0');
        const uint8_t two = tens <= 9 ? 0xFF : 0, three = hundreds <= 9 ? two : 0;
        numbers[i] = (float)(uint16_t)((uint8_t)(ones + 10 * (tens & two)) + 100 * (hundreds & three));
    }
}

/* Read the cells from *at on that are integers of up to three digits with a delimiter after them, at most `most` and
 * within a window; how many. The next mark is the first that is not before *at. */
INLINE size_t short_cells(Marks *marks, uint8_t delimiter, size_t *at, size_t most, float *to) {
    const uint8_t *window = marks->text + *at;
    const size_t left = marks->size - *at;
    uint8_t copy[SHORTEST + WINDOW]; /* at the edges of the text */
    if (*at < SHORTEST || left < WINDOW) {
        memset(copy, '\n', sizeof copy);
        memcpy(copy + SHORTEST, window, left < WINDOW ? left : WINDOW);
        window = copy + SHORTEST;
    }
    const uint64_t all = marks_of(window), delimiters = places_of(window, delimiter), digits = ~all;
    const uint64_t empty = all & (all << 1 | 1), fourth = digits & digits << 1 & digits << 2 & digits << 3;
    const uint64_t wrong = (all ^ delimiters) | empty | fourth; /* up to the first of these, all is well */
    uint64_t good = delimiters & (wrong ? (wrong & -wrong) - 1 : ~(uint64_t)0);
    size_t count = (size_t)__builtin_popcountll(good);
    if (count > most)
        count = most;
    if (count < FEWEST)
        return 0;
    float numbers[WINDOW];
    integers_before(window, numbers);
    unsigned last = 0;
    for (size_t i = 0; i < count; i++) {
        last = (unsigned)__builtin_ctzll(good);
        to[i] = numbers[last];
        good &= good - 1;
    }
    marks->base = *at;
    marks->mask = all & ~(((uint64_t)2 << last) - 1);
    *at += last + 1;
    return count;
}

/* Any cell from `at` on, of which *stop is the first mark; after, it is where the cell ends. Whether there is one. */
INLINE bool any_cell(Marks *marks, const uint8_t *ends, size_t at, size_t *stop, float *number) {
    if (plain_number(marks, ends, at, stop, number))
        return true;
    while (!ends[marks->text[*stop]])
        *stop = next_mark(marks);
    return other_cell(marks->text + at, marks->text + *stop, number);
}

/* Read all rows of a text that ends with a newline: their number, or -1 where anything in it is unusual. */
INLINE ptrdiff_t csv_parse(const uint8_t *text, size_t size, uint8_t delimiter, const CsvTable *table) {
    uint8_t ends[256] = {0};
    ends['\n'] = ends['\r'] = ends[delimiter] = 1;
    Marks marks = marks_in(text, size);
    size_t at = 0, rows = 0;
    const size_t width = table->width, labels = table->labels;
    float *label = table->label, *feature = table->feature;
    size_t run = FEWEST; /* so many short integers came last; more of them may follow */
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
        float *to = label;
        size_t left = labels, later = width - labels, stop;
        do {
            if (!left) {
                if (!later)
                    return -1;
                label = to;
                to = feature;
                left = later;
                later = 0;
            }
            if (run >= FEWEST && left > FEWEST) {
                run = short_cells(&marks, delimiter, &at, left - 1, to);
                to += run;
                left -= run;
            }
            left--;
            stop = next_mark(&marks);
            if ((text[stop] == delimiter || text[stop] == '\n') && stop - at - 1 < 4 && at >= REACH) {
                *to = short_integer(text + stop, stop - at);
                run++;
            } else {
                if (!any_cell(&marks, ends, at, &stop, to))
                    return -1;
                run = 0;
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

/* lex: template source to tokens. The rules are those of the reference's lexer with trim_blocks and
 * lstrip_blocks: a line that holds nothing before a block or comment tag loses its indentation, a block or
 * comment tag takes the newline behind it along, `-` takes all white space on its side, `+` keeps it. */
#include <stdio.h>
#include <stdlib.h>

#include "server/jinja/ast.h"
#include "base/utf8.h"

enum { MAX_BRACKETS = 4 * TMPL_MAX_NESTING }; /* open in one tag; the parser's own bound is tighter */

struct lexer {
    struct parser *p;
    const char *at, *end;
    int line;
    bool line_starting; /* what was consumed last ended with a newline */
    char closing[MAX_BRACKETS];
    int n_closing;
};

static int count_newlines(const char *p, const char *end)
{
    int n = 0;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        n++;
        p++;
    }
    return n;
}

/* The first byte from p on that is not white space. */
static const char *skip_space(const char *p, const char *end)
{
    while (p < end) {
        uint32_t cp;
        const int n = utf8_get(p, end, &cp);
        if (!tmpl_is_space(cp)) break;
        p += n;
    }
    return p;
}

static const char *strip_right(const char *p, const char *end)
{
    while (end > p) {
        const char *q = end - 1;
        while (q > p && ((uint8_t)*q & 0xC0) == 0x80) q--;
        uint32_t cp;
        utf8_get(q, end, &cp);
        if (!tmpl_is_space(cp)) break;
        end = q;
    }
    return end;
}

static bool starts(const char *p, const char *end, const char *what)
{
    const size_t n = strlen(what);
    return (size_t)(end - p) >= n && memcmp(p, what, n) == 0;
}

static struct token *push(struct lexer *l, enum tok_kind kind, const char *s, size_t n)
{
    struct parser *p = l->p;
    if (p->n_tok == p->cap_tok) {
        const size_t cap = p->cap_tok ? p->cap_tok * 2 : 256;
        struct token *tok = arena_array(&p->scratch, cap, sizeof *tok);
        if (!tok) {
            p->err = err_set(p->note, ERR_NOMEM, "chat_template", "out of memory");
            return NULL;
        }
        if (p->n_tok) memcpy(tok, p->tok, p->n_tok * sizeof *tok);
        p->tok = tok;
        p->cap_tok = cap;
    }
    p->tok[p->n_tok] = (struct token){.kind = kind, .line = l->line, .p = s, .n = n};
    return &p->tok[p->n_tok++];
}

/* Consumes up to `to`, keeping the line number. */
static void advance(struct lexer *l, const char *to)
{
    l->line += count_newlines(l->at, to);
    if (to > l->at) l->line_starting = to[-1] == '\n';
    l->at = to;
}

/* The end of a closing tag at p ("%}", "#}" with its sign), or NULL when there is none. */
static const char *match_end(const char *p, const char *end, const char *close, bool is_block)
{
    if (p < end && *p == '-' && starts(p + 1, end, close)) return skip_space(p + 3, end);
    if (is_block && p < end && *p == '+' && starts(p + 1, end, close)) return p + 3;
    if (!starts(p, end, close)) return NULL;
    p += 2;
    return is_block && p < end && *p == '\n' ? p + 1 : p;
}

/* Template text before a tag with that sign. */
static bool push_data(struct lexer *l, const char *tag, char sign, bool is_variable)
{
    const char *p = l->at, *end = tag;
    if (sign == '-') {
        end = strip_right(p, end);
    } else if (sign != '+' && !is_variable) {
        const char *newline = memrchr(p, '\n', (size_t)(end - p));
        const char *start = newline ? newline + 1 : p;
        if ((newline || l->line_starting) && skip_space(start, end) == end) end = start;
    }
    if (end > p && !push(l, TOK_DATA, p, (size_t)(end - p))) return false;
    advance(l, tag);
    return true;
}

/* "{%- raw -%}" at the opening brace: the start of its content, else NULL. */
static const char *match_raw(const char *p, const char *end)
{
    p += 2;
    if (p < end && (*p == '-' || *p == '+')) p++;
    p = skip_space(p, end);
    if (!starts(p, end, "raw")) return NULL;
    p = skip_space(p + 3, end);
    if (starts(p, end, "-%}")) return skip_space(p + 3, end);
    return starts(p, end, "%}") ? p + 2 : NULL;
}

static bool lex_raw(struct lexer *l, const char *content)
{
    const int line = l->line;
    advance(l, content);
    for (const char *tag = l->at; (tag = memmem(tag, (size_t)(l->end - tag), "{%", 2)); tag += 2) {
        const char *p = tag + 2;
        char sign = '\0';
        if (p < l->end && (*p == '-' || *p == '+')) sign = *p++;
        p = skip_space(p, l->end);
        if (!starts(p, l->end, "endraw")) continue;
        const char *after = match_end(skip_space(p + 6, l->end), l->end, "%}", true);
        if (!after) continue;
        if (!push_data(l, tag, sign, false)) return false;
        advance(l, after);
        return true;
    }
    return tmpl_syntax_error(l->p, line, "Missing end of raw directive");
}

static bool lex_comment(struct lexer *l, const char *content)
{
    const char *close = memmem(content, (size_t)(l->end - content), "#}", 2);
    if (!close) return tmpl_syntax_error(l->p, l->line, "Missing end of comment tag");
    if (close > content && (close[-1] == '-' || close[-1] == '+')) close--;
    advance(l, match_end(close, l->end, "#}", true));
    return true;
}

/* --- inside a tag --- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Digits with single underscores between them; p itself is a digit. */
static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && (is_digit(*p) || (*p == '_' && p + 1 < end && is_digit(p[1])))) p++;
    return p;
}

/* The end of a float literal at p, or NULL. */
static const char *match_float(const char *p, const char *end)
{
    const char *q = skip_digits(p, end);
    const bool has_fraction = q + 1 < end && *q == '.' && is_digit(q[1]);
    if (has_fraction) q = skip_digits(q + 1, end);
    if (q < end && (*q == 'e' || *q == 'E')) {
        const char *e = q + 1;
        if (e < end && (*e == '+' || *e == '-')) e++;
        if (e < end && is_digit(*e)) return skip_digits(e, end);
    }
    return has_fraction ? q : NULL;
}

static int digit_value(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* The end of an integer literal at p, with its base and where its digits begin. */
static const char *match_int(const char *p, const char *end, int *base, const char **digits)
{
    static const struct {
        char c[2];
        int base;
    } prefixes[] = {{"bB", 2}, {"oO", 8}, {"xX", 16}};
    for (size_t i = 0; *p == '0' && p + 1 < end && i < 3; i++) {
        if (p[1] != prefixes[i].c[0] && p[1] != prefixes[i].c[1]) continue;
        const char *q = p + 2;
        while (q < end && (digit_value(*q) < prefixes[i].base ||
                           (*q == '_' && q + 1 < end && digit_value(q[1]) < prefixes[i].base))) {
            q++;
        }
        if (q == p + 2) break;
        *base = prefixes[i].base;
        *digits = p + 2;
        return q;
    }
    *base = 10;
    *digits = p;
    if (*p != '0') return skip_digits(p, end);
    for (p++; p < end && (*p == '0' || (*p == '_' && p + 1 < end && p[1] == '0')); p++) {
    }
    return p;
}

static bool lex_number(struct lexer *l)
{
    const char *end = l->at > l->p->t->source && l->at[-1] == '.' ? NULL : match_float(l->at, l->end);
    if (end) {
        char *clean = arena_alloc(&l->p->scratch, (size_t)(end - l->at) + 1);
        size_t n = 0;
        if (!clean) {
            l->p->err = err_set(l->p->note, ERR_NOMEM, "chat_template", "out of memory");
            return false;
        }
        for (const char *p = l->at; p < end; p++) {
            if (*p != '_') clean[n++] = *p;
        }
        struct token *t = push(l, TOK_FLOAT, l->at, (size_t)(end - l->at));
        if (!t) return false;
        t->f = strtod(clean, NULL);
    } else {
        int base;
        const char *digits;
        int64_t i = 0;
        end = match_int(l->at, l->end, &base, &digits);
        for (const char *p = digits; p < end; p++) {
            if (*p == '_') continue;
            if (__builtin_mul_overflow(i, base, &i) || __builtin_add_overflow(i, digit_value(*p), &i)) {
                return tmpl_syntax_error(l->p, l->line, "integer literal is too large");
            }
        }
        struct token *t = push(l, TOK_INT, l->at, (size_t)(end - l->at));
        if (!t) return false;
        t->i = i;
    }
    l->at = end;
    return true;
}

/* Reads n hex digits at p as one code point. */
static bool hex_escape(const char *p, const char *end, int n, uint32_t *cp)
{
    *cp = 0;
    if (end - p < n) return false;
    for (int i = 0; i < n; i++) {
        const int d = digit_value(p[i]);
        if (d > 15) return false;
        *cp = *cp * 16 + (uint32_t)d;
    }
    return *cp < 0xD800 || (*cp > 0xDFFF && *cp <= 0x10FFFF);
}

/* One backslash escape at p (behind the backslash), as Python's unicode-escape reads it. The bytes taken, 0:
 * malformed.
 */
static int unescape(const char *p, const char *end, char out[12], int *n_out)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    const char *plain = memchr(from, *p, sizeof from - 1);
    uint32_t cp = 0;
    *n_out = 0;
    if (plain) {
        out[(*n_out)++] = to[plain - from];
        return 1;
    }
    if (*p == '\n') return 1;
    if (*p >= '0' && *p <= '7') {
        int n = 0;
        for (; n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7'; n++) cp = cp * 8 + (uint32_t)(p[n] - '0');
        *n_out = utf8_put(out, cp);
        return n;
    }
    if (*p == 'x' || *p == 'u' || *p == 'U') {
        const int n = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        if (!hex_escape(p + 1, end, n, &cp)) return 0;
        *n_out = utf8_put(out, cp);
        return n + 1;
    }
    if (*p == 'N') return 0; /* \N{NAME}: a table of all character names is not worth it */
    out[(*n_out)++] = '\\';
    if ((uint8_t)*p < 0x80) { /* an unknown escape stays as it is */
        out[(*n_out)++] = *p;
        return 1;
    }
    /* The reference spells characters beyond ASCII as escapes first, so that the backslash escapes that one's
     * own. */
    const int n = utf8_get(p, end, &cp);
    *n_out += snprintf(out + 1, 11, cp < 0x100 ? "x%02x" : cp < 0x10000 ? "u%04x" : "U%08x", (unsigned)cp);
    return n;
}

static bool lex_string(struct lexer *l)
{
    const char quote = *l->at, *p = l->at + 1;
    while (p < l->end && *p != quote) p += *p == '\\' && p + 1 < l->end ? 2 : 1;
    if (p >= l->end)
        return tmpl_syntax_error(l->p, l->line, "unexpected char '%c': the string does not end", quote);
    const char *end = p;
    const size_t n_raw = (size_t)(end - l->at - 1);
    char *s = arena_alloc(&l->p->t->arena,
                          n_raw * 5 + 12); /* `\` and two bytes can become `\x` and four, at most */
    size_t n = 0;
    if (!s) {
        l->p->err = err_set(l->p->note, ERR_NOMEM, "chat_template", "out of memory");
        return false;
    }
    for (p = l->at + 1; p < end;) {
        if (*p != '\\') {
            s[n++] = *p++;
            continue;
        }
        int n_out = 0;
        const int n_in = unescape(p + 1, end, s + n, &n_out);
        if (!n_in) return tmpl_syntax_error(l->p, l->line, "malformed \\%c escape in a string", p[1]);
        p += 1 + n_in;
        n += (size_t)n_out;
    }
    if (!push(l, TOK_STRING, s, n)) return false;
    advance(l, end + 1);
    return true;
}

static bool is_name_char(uint32_t cp)
{
    if (cp < 0x80) return cp == '_' || is_digit((char)cp) || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
    char buf[4];
    const int n = utf8_put(buf, cp);
    return tmpl_string_is(&(struct text){.p = buf, .n = (size_t)n}, CLASS_ALNUM);
}

static bool lex_name(struct lexer *l)
{
    const char *p = l->at;
    uint32_t cp;
    for (int n; p < l->end; p += n) {
        n = utf8_get(p, l->end, &cp);
        if (!is_name_char(cp)) break;
    }
    if (p == l->at) {
        const int n = utf8_get(p, l->end, &cp);
        return tmpl_syntax_error(l->p, l->line, "unexpected char '%.*s'", n, p);
    }
    if (!push(l, TOK_NAME, l->at, (size_t)(p - l->at))) return false;
    l->at = p;
    return true;
}

/* longest first */
static const struct {
    char s[3];
    uint8_t n;
    enum tok_kind kind;
} operators[] = {
    {"//", 2, TOK_FLOORDIV}, {"**", 2, TOK_POW},      {"==", 2, TOK_EQ},    {"!=", 2, TOK_NE},
    {">=", 2, TOK_GE},       {"<=", 2, TOK_LE},       {"+", 1, TOK_ADD},    {"-", 1, TOK_SUB},
    {"/", 1, TOK_DIV},       {"*", 1, TOK_MUL},       {"%", 1, TOK_MOD},    {"~", 1, TOK_TILDE},
    {"[", 1, TOK_LBRACKET},  {"]", 1, TOK_RBRACKET},  {"(", 1, TOK_LPAREN}, {")", 1, TOK_RPAREN},
    {"{", 1, TOK_LBRACE},    {"}", 1, TOK_RBRACE},    {">", 1, TOK_GT},     {"<", 1, TOK_LT},
    {"=", 1, TOK_ASSIGN},    {".", 1, TOK_DOT},       {":", 1, TOK_COLON},  {"|", 1, TOK_PIPE},
    {",", 1, TOK_COMMA},     {";", 1, TOK_SEMICOLON},
};

/* Keeps the brackets paired: a closing tag counts as one only outside of them. */
static bool balance(struct lexer *l, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *o = strchr(open, c);
    if (o) {
        if (l->n_closing == MAX_BRACKETS)
            return tmpl_syntax_error(l->p, l->line, "brackets are nested too deeply");
        l->closing[l->n_closing++] = close[o - open];
    } else if (strchr(close, c)) {
        if (!l->n_closing) return tmpl_syntax_error(l->p, l->line, "unexpected '%c'", c);
        const char want = l->closing[--l->n_closing];
        if (want != c) return tmpl_syntax_error(l->p, l->line, "unexpected '%c', expected '%c'", c, want);
    }
    return true;
}

static bool lex_operator(struct lexer *l, bool *found)
{
    *found = false;
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (!starts(l->at, l->end, operators[i].s)) continue;
        *found = true;
        if (operators[i].n == 1 && !balance(l, *l->at)) return false;
        if (!push(l, operators[i].kind, l->at, operators[i].n)) return false;
        l->at += operators[i].n;
        return true;
    }
    return true;
}

/* The tokens of one tag up to and with its end. A source that ends before is left to the parser. */
static bool lex_tag(struct lexer *l, bool is_block)
{
    l->n_closing = 0;
    while (l->at < l->end) {
        const char *end = l->n_closing ? NULL : match_end(l->at, l->end, is_block ? "%}" : "}}", is_block);
        if (end) {
            if (!push(l, is_block ? TOK_BLOCK_END : TOK_VAR_END, l->at, (size_t)(end - l->at))) return false;
            advance(l, end);
            return true;
        }
        const char *word = skip_space(l->at, l->end);
        if (word > l->at) {
            advance(l, word);
            continue;
        }
        bool found = true, ok;
        if (is_digit(*l->at)) {
            ok = lex_number(l);
        } else if (*l->at == '"' || *l->at == '\'') {
            ok = lex_string(l);
        } else {
            ok = lex_operator(l, &found);
        }
        if (ok && !found) ok = lex_name(l);
        if (!ok) return false;
    }
    return true;
}

/* The next tag's opening brace, or NULL. */
static const char *find_tag(const char *p, const char *end)
{
    while (p < end && (p = memchr(p, '{', (size_t)(end - p)))) {
        if (p + 1 < end && (p[1] == '%' || p[1] == '{' || p[1] == '#')) return p;
        p++;
    }
    return NULL;
}

static bool lex_all(struct lexer *l)
{
    while (l->at < l->end) {
        const char *tag = find_tag(l->at, l->end);
        if (!tag) {
            if (!push(l, TOK_DATA, l->at, (size_t)(l->end - l->at))) return false;
            advance(l, l->end);
            break;
        }
        const char type = tag[1];
        const char *raw = type == '%' ? match_raw(tag, l->end) : NULL;
        const char *body = tag + 2;
        char sign = '\0';
        if (body < l->end && (*body == '-' || *body == '+')) sign = *body++;
        if (!push_data(l, tag, sign, type == '{')) return false;
        if (raw ? !lex_raw(l, raw) : type == '#' && !lex_comment(l, body)) return false;
        if (raw || type == '#') continue;
        if (!push(l, type == '%' ? TOK_BLOCK_BEGIN : TOK_VAR_BEGIN, tag, 2)) return false;
        advance(l, body);
        if (!lex_tag(l, type == '%')) return false;
    }
    return push(l, TOK_EOF, l->end, 0) != NULL;
}

bool tmpl_lex(struct parser *p, const char *src, size_t n)
{
    if (n > TMPL_MAX_SOURCE_BYTES) {
        p->err = err_set(p->note, ERR_MODEL_FILE, "chat_template",
                         "the template has %zu bytes, at most %d are read", n, TMPL_MAX_SOURCE_BYTES);
        return false;
    }
    char *s = arena_alloc(&p->t->arena, n + 1);
    if (!s) {
        p->err = err_set(p->note, ERR_NOMEM, "chat_template", "out of memory");
        return false;
    }
    size_t len = 0;
    int line = 1;
    for (size_t i = 0; i < n;) { /* newlines become "\n" */
        const int k = utf8_step((const uint8_t *)src + i, n - i);
        if (k < 0) return tmpl_syntax_error(p, line, "the template is not valid UTF-8");
        line += src[i] == '\n';
        if (src[i] == '\r') {
            s[len++] = '\n';
            i += i + 1 < n && src[i + 1] == '\n' ? 2 : 1;
        } else {
            memcpy(s + len, src + i, (size_t)k);
            len += (size_t)k;
            i += (size_t)k;
        }
    }
    if (len && s[len - 1] == '\n') len--; /* keep_trailing_newline is off */
    p->t->source = s;
    struct lexer l = {.p = p, .at = s, .end = s + len, .line = 1, .line_starting = true};
    return lex_all(&l);
}

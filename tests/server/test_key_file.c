/* key_file: lines of the key file, right and wrong; a wrong one is named and none counts. */
#include "tests/base/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/key_file.h"

static enum err read_text(struct key_list *l, const char *text, const char *variable, struct err_note *note)
{
    char path[] = "/tmp/test_key_file_XXXXXX";
    const int fd = mkstemp(path);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    const enum err e = key_file_read(l, path, variable, note);
    unlink(path);
    return e;
}

static void a_line_is_a_key_or_a_name_with_key_and_limits(void **st)
{
    (void)st;
    static const char text[] =
        "# words\n\n plain \t\r\nalice: sk-1\n\tbob@x.y:\tsk-2  running=3\r\n"
        "carol: sk-3 tokens-per-minute=60000 running=1000000\nwith:colon\nalice: sk-4\nplain\n";
    static const struct key_row want[] = {
        {.key = "plain"},
        {.key = "sk-1", .name = "alice"},
        {.key = "sk-2", .name = "bob@x.y", .running_most = 3},
        {.key = "sk-3", .name = "carol", .running_most = 1000000, .tok_per_minute = 60000},
        {.key = "with:colon"},
        {.key = "sk-4", .name = "alice"},
        {.key = "plain"},
        {.key = "from-outside"},
    };
    struct key_list l;
    struct err_note note;
    assert_int_equal(read_text(&l, text, "from-outside", &note), OK);
    assert_int_equal(l.n, sizeof want / sizeof *want);
    for (int i = 0; i < l.n; i++) {
        assert_string_equal(l.row[i].key, want[i].key);
        assert_string_equal(l.row[i].name, want[i].name);
        assert_true(l.row[i].running_most == want[i].running_most);
        assert_true(l.row[i].tok_per_minute == want[i].tok_per_minute);
    }
    key_list_free(&l);
    assert_int_equal(read_text(&l, "alice: sk-1\n", "sk-1", &note), OK); /* the file says whose it is */
    assert_int_equal(l.n, 1);
    key_list_free(&l);
}

static void a_wrong_line_is_named_and_nothing_counts(void **st)
{
    (void)st;
    static const char *const bad[] = {
        "two words",
        "caf\xc3\xa9",
        "alice:",
        "alice: ",
        "al ice: sk",
        "a/b: sk",
        "\xc3\xa9: sk",
        "alice: sk running",
        "alice: sk running=",
        "alice: sk running=0",
        "alice: sk running=-1",
        "alice: sk running=1000001",
        "alice: sk running=1x",
        "alice: sk running=99999999999999999999",
        "alice: sk tokens-per-minute=0",
        "alice: sk tokens-per-minute=1.5",
        "alice: sk Running=1",
        "alice: sk running=1 running=1",
        "alice: sk sk2",
        "plain running=1",
        "first-name: other-limits running=2",
        "other: taken",
        "name-of-more-than-sixty-three-characters-which-is-what-there-is-room-for: sk",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256], where[32];
        struct key_list l;
        struct err_note note;
        snprintf(text, sizeof text, "first-name: taken running=1\n#\n%s\nlast\n", bad[i]);
        if (read_text(&l, text, NULL, &note) != ERR_CONFIG) fail_msg("\"%s\" is taken", bad[i]);
        snprintf(where, sizeof where, ", line 3: ");
        if (!strstr(note.text, where)) fail_msg("\"%s\": %s", bad[i], note.text);
        assert_null(strstr(note.text, "taken")); /* no key is told */
        assert_true(l.n == 0 && l.row == NULL);
    }
}

static void no_key_at_all_is_a_mistake(void **st)
{
    (void)st;
    struct key_list l;
    struct err_note note;
    static const char *const none[] = {"", "\n", "# a\n", "  \t\n"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_int_equal(read_text(&l, none[i], "variable", &note), ERR_CONFIG);
    assert_int_equal(key_file_read(&l, "", "", &note), ERR_CONFIG);
    assert_int_equal(key_file_read(&l, "", "a b", &note), ERR_CONFIG);
    assert_int_equal(key_file_read(&l, "/does/not/exist", NULL, &note), ERR_CONFIG);
    assert_int_equal(key_file_read(&l, "", NULL, &note), OK);
    assert_int_equal(l.n, 0);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(a_line_is_a_key_or_a_name_with_key_and_limits),
        cmocka_unit_test(a_wrong_line_is_named_and_nothing_counts),
        cmocka_unit_test(no_key_at_all_is_a_mistake),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}

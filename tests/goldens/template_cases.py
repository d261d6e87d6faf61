"""Small templates, each for one rule of the template language. ctx() is what they see."""


def ctx():
    return {
        "none_value": None, "yes": True, "no": False, "n": 7, "neg": -7, "pi": 3.25, "big": 1e22, "tiny": 1.5e-7, "tenth": 0.1,
        "s": "Hello World", "u": "Größe ß 世界 🌍 ǅ", "sp": " \t pad \u00a0\n", "empty": "", "q": "it's \"q\" \\ \n\t\u2028 <&>",
        "l": [3, 1, 2], "words": ["b", "A", "c", "a", "B"], "mixed": [1, "a", None, True, 2.5, [1], {"k": 1}],
        "d": {"b": 1, "a": {"x": [1, 2, {"y": "deep"}]}, "items": 5, "C": None, "k": "v"},
        "rows": [{"n": "x", "v": 2, "g": {"h": 1}}, {"n": "Y", "v": 1, "g": {"h": 3}}, {"n": "z", "v": 3, "g": {"h": 2}, "extra": True}],
        "lines": "one\n\ntwo\r\nthree\n", "csv": "a,b,,c", "nums": [1, 2, 3, 4, 5, 6, 7], "empty_list": [], "empty_dict": {},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
    }


EXPRESSIONS = """
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 // -2, -7 % 3, 7 % -3, 7.5 // 2, -7.5 % 2, 2 ** 10, 2 ** -1, 2 ** 0.5
1 / 3, 10 / 5, 0.1 + 0.2, 1e3, 1.5e300 * 10, 5e-5, 123456789.123456789, 1e16, 123456789012345678
true + 1, true * 3, false == 0, 1 == 1.0, true == 1, none == none, 'a' == 'a', [1] == [1.0], (1,) == [1]
1 < 2 < 3, 1 < 3 < 2, 'a' < 'b' <= 'b', [1, 2] < [1, 3], (1,) < (1, 0), 'Z' < 'a', 'é' > 'z'
not 1, not 0, not not 1, not none == none, 1 and 2, 0 and 2, 0 or 'x', 1 or 2, '' or [] or none
1 if yes, 1 if no else 2, 'a' if no else 'b' if no else 'c', (1 if no) is defined
n in [7, 8], 'World' in s, 'x' not in s, 'a' in d, 1 in {1: 2}, '' in 'abc', none in [none], not 'a' in 'b'
'a' ~ 1 ~ none ~ true ~ 2.5 ~ [1, 'x'] ~ undefined_thing ~ 'z'
'ab' * 3, 3 * 'ab', [1, 2] * 2, 'x' * 0, 'x' * -1, (1,) * 2
[1] + [2], (1,) + (2,), 'a' + 'b' + 'c'
l[0], l[-1], l[10] is defined, s[0], s[-1], u[4], u[-1], u[100] is undefined, l['x'] is defined
l[1:], l[:-1], l[::-1], l[::2], nums[1:5:2], nums[5:1:-2], nums[-3:], nums[:100], nums[3:3], nums[-100:2], nums[10:20]
s[1:4], s[::-1], s[::3], u[1:5], u[::-1], u[-3:], u[2:-2:2], s[:0], (1, 2, 3)[1:], range(10)[2:5], range(10)[::-3]
d.b, d['b'], d.a.x[2].y, d.nothing is defined, d['nothing'] is defined, d.k, d.C is none, d['items'], d.items() | list
d.keys() | list, d.values() | list | length, d.get('b'), d.get('zz'), d.get('zz', 4), d.items is callable, d.pop is defined, l.append is defined
rows[0].g.h, rows | map(attribute='n') | list, rows | map(attribute='g.h') | join(','), rows | map(attribute='extra') | list, rows | map(attribute='extra', default='no') | list
words | map('upper') | list, words | map('replace', 'a', 'Z') | join, nums | map('string') | join('-'), words|map('length')|sum
nums | select('odd') | list, nums | reject('odd') | list, nums | select('gt', 3) | list, nums | select('divisibleby', 3) | list, mixed | select | list, mixed | reject('none') | list | length
rows | selectattr('extra') | list | length, rows | selectattr('v', 'equalto', 2) | map(attribute='n') | first, rows | rejectattr('v', 'gt', 1) | list, rows | selectattr('extra', 'undefined') | list | length, rows | selectattr('extra', 'defined') | map(attribute='n') | join
words | sort, words | sort(case_sensitive=true), words | sort(reverse=true), l | sort, rows | sort(attribute='v') | map(attribute='n') | join, rows | sort(attribute='g.h', reverse=true) | map(attribute='n') | join, rows | sort(attribute='v,n') | map(attribute='v') | list
words | unique | list, words | unique(case_sensitive=true) | list, [1, 1.0, true, 2, '1'] | unique | list, rows | unique(attribute='v') | map(attribute='n') | list, [none, none] | unique | list
words | min, words | max, l | min, l | max, rows | max(attribute='v'), [] | max is defined, ['b', 'A'] | min(case_sensitive=true)
d | dictsort, d | dictsort(true), {'b': 1, 'a': 2} | dictsort(by='value'), {'b': 1, 'A': 2} | dictsort(reverse=true), {'b': 1, 'A': 2} | dictsort(true, 'key')
l | sum, rows | sum(attribute='v'), [0.1, 0.2] | sum, [[1], [2]] | sum(start=[]), [] | sum
l | first, l | last, s | first, u | last, [] | first is defined, d | first, l | reverse | list, s | reverse, d | reverse | list | first
l | length, s | length, u | length, d | length, l | count, undefined_thing | length, range(5) | length, d.items() | length
l | join, l | join(', '), rows | join('+', attribute='n'), s | join('.'), undefined_thing | join('x'), [1, none, true, 2.5, 'é'] | join('|')
l | list, s | list, d | list, range(3) | list, (1, 2) | list, 'é世' | list, undefined_thing | list
nums | batch(3) | list, nums | batch(4, 'x') | list, nums | slice(3) | list, nums | slice(3, 0) | list
d | items | list | length, undefined_thing | items | list, d.a | items | list
s | upper, s | lower, s | title, s | capitalize, u | upper, u | lower, 'hELLO wORLD-foo (bar)' | title, 'ß' | capitalize, 'ΑΣ ΣΑΣ' | lower, 'ŉ ﬁ' | upper
sp | trim, 'xxaxx' | trim('x'), 'abcba' | trim('ab'), '\u3000x\u2003' | trim, 5 | trim, undefined_thing | trim
s | replace('l', 'L'), s | replace('l', 'L', 2), s | replace('', '-'), s | replace('', '-', 3), 'aaa' | replace('aa', 'b'), 12345 | replace(3, 'x'), 'é' | replace('é', 'ee'), s | replace('Hello World', '')
none_value | default('x'), undefined_thing | default('x'), undefined_thing | default, '' | default('x'), '' | default('x', true), none_value | d('x', true), 0 | default(5, boolean=true)
'42' | int, '42.9' | int, 'x' | int, 'x' | int(-1), 3.9 | int, -3.9 | int, '0x1f' | int(base=16), '11' | int(0, 2), true | int, none_value | int, ' 12 ' | int, '1_000' | int, '1__0' | int, '-5' | int, '+5' | int, '1e3' | int, 'inf' | int, [] | int(3)
'4.5' | float, 'x' | float, 'x' | float(1.5), 3 | float, '1e5' | float, 'nan' | float | string, '-inf' | float | string, ' 1.5 ' | float, '0x10' | float, true | float, '1_0.5' | float
42.55 | round, 42.55 | round(1), 42.45 | round(1, 'floor'), 42.41 | round(1, 'ceil'), 2.5 | round, 3.5 | round, 7 | round, -2.5 | round, 1.005 | round(2), 1234.5 | round(-2), 0.5 | round | int
-5 | abs, 5.5 | abs, -0.5 | abs, true | abs
1 | string, none_value | string, 1.0 | string, 1e100 | string, true | string, l | string, d | string, (1,) | string, () | string, undefined_thing | string
s | tojson, u | tojson, q | tojson, d | tojson, mixed | tojson, (1, 2) | tojson, 1.0 | tojson, 1e22 | tojson, true | tojson, none_value | tojson, '\x7f\x00\x1f' | tojson, {1: 2, none: 3, true: 4, 2.5: 5} | tojson
d | tojson(indent=2), mixed | tojson(indent=0), [] | tojson(indent=2), {} | tojson(indent=4), [[], {}, [1]] | tojson(indent=1), d | tojson(indent='\t'), rows | tojson(none, 2)
u | tojson(ensure_ascii=true), q | tojson(true), d | tojson(sort_keys=true), d | tojson(separators=(',', ':')), l | tojson(separators=('; ', '='), indent=2)
q, [q], [u, 'a\'b', "a\"b", 'both\'"'], ['\x00\x1f\x7f\x80\xa0\u200b\u2028\ue000 é🌍'], {'a': 'b'}, ((1, 2), [3])
q | escape, q | e, (q | safe) + '<x>', '<y>' + (q | safe), (s | safe) ~ '<z>', '<b>' | escape | upper, ('<' | safe) is escaped, '<' | string | e | e, '<' | forceescape | forceescape
'%s is %d' | format('x', 3), '%s' % 'a', '%5.1f|%-6s|%06d|%x|%%' % (3.14159, 'ab', 42, 255), '%(a)s' % {'a': 1}, '%r' % 'x', '%+d % d' % (5, 5), '%e' % 12345.678, '%g' % 0.0001, '%c' | length
'{} {}'.format(1, 'x'), '{1} {0}'.format('a', 'b'), '{a}-{b}'.format(a=1, b=2), '{0.b} {0[k]}'.format(d), '{:>5}|{:<5}|{:^5}|{:*^7}'.format(1, 'a', 'b', 'c'), '{:.2f} {:05d} {:,} {:x} {:%}'.format(3.14159, 42, 1234567, 255, 0.25), '{{}}'.format(), '{!r}'.format('x'), '{:.3}'.format('abcdef')
s.upper(), s.lower(), s.title(), s.swapcase(), s.capitalize(), 'they\'re bill\'s'.title(), u.title(), u.upper(), 'ǆ'.title()
sp.strip(), sp.lstrip(), sp.rstrip(), 'xyx'.strip('x'), 'abc'.lstrip('ba'), 'abc'.rstrip('cb'), '\n\na\n'.lstrip('\n'), 'éaé'.strip('é'), 'x'.strip(none)
csv.split(','), csv.split(',', 1), csv.rsplit(',', 1), ' a  b c '.split(), ' a  b c '.split(none, 1), ' a  b c '.rsplit(none, 1), 'aXXbXXc'.split('XX'), 'aaa'.split('aa'), 'aaa'.rsplit('aa'), ''.split(), ''.split(','), 'a,b'.split(',', maxsplit=0), 'a</think>b</think>c'.split('</think>')[-1]
'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.partition('x'), 'abc'.rpartition('x')
lines.splitlines(), lines.splitlines(true), 'a\x0bb\x1cc\x85d\u2028e'.splitlines(), ''.splitlines(), '\n'.splitlines()
s.startswith('He'), s.endswith('ld'), s.startswith(('x', 'H')), s.startswith('lo', 3), s.endswith('lo', 0, 5), ''.startswith(''), s.endswith(('a', 'b'))
s.find('o'), s.rfind('o'), s.find('zz'), u.find('世'), u.rfind(' '), s.find('o', 5), s.find('o', -4), s.index('W'), s.count('l'), s.count(''), 'aaaa'.count('aa'), u.count(' '), 'abcabcabcabc'.rfind('abcabcabc'), s.find('', 20), s.find('', 11)
s.replace('o', '0'), s.replace('o', '0', 1), ', '.join(words), ''.join([]), '-'.join('abc'), '-'.join(d)
'abc'.removeprefix('a'), 'abc'.removesuffix('c'), 'abc'.removeprefix('x'), 'abc'.removesuffix('')
'5'.zfill(3), '-5'.zfill(4), 'a'.center(4) ~ '|', 'ab'.center(5, '*'), 'a'.ljust(3, '.'), 'a'.rjust(3), 'abc' | center(8) ~ '|'
'abc'.isalpha(), '12'.isdigit(), 'a1'.isalnum(), ' '.isspace(), 'ab'.islower(), 'AB'.isupper(), ''.isalpha(), 'é'.isascii(), 'A b'.isupper(), 'x'.isprintable()
[1, 2, 1].count(1), [1, 2].index(2), (1, 2).index(2), l.copy()
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), n is number, n is integer, pi is float, s is string, d is mapping, l is iterable, l is sequence, s is sequence, s is iterable, d is sequence, none_value is none, none_value is not none, yes is true, no is false, yes is boolean, 1 is true, n is not odd
undefined_thing is defined, undefined_thing is undefined, d.zz is defined, n is defined, undefined_thing is iterable, undefined_thing is sequence, undefined_thing is mapping, undefined_thing is none, 1.0 is integer, true is integer, true is number, d.items() is sequence, d.items() is iterable, (nums | map('abs')) is sequence
n is eq 7, n is equalto(7), n is ne 8, n is gt 3, n is lt 3, n is ge 7, n is le 7, n is in [7], n is not in [1], 'a' is in 'abc', n is sameas n, l is sameas l, 'x' is lower, 'X' is upper, 'trim' is filter, 'nope' is filter, 'odd' is test
range(5) | list, range(2, 8, 3) | list, range(5, 0, -2) | list, range(0) | list, range(3), range(1, 9, 2), range(10)[3], range(10)[-1], 3 in range(5)
dict(a=1, b=2), dict(d, z=1).z, dict([('a', 1), ('b', 2)]), {'a': 1, 'a': 2, 'b': 3}, {1: 'x', '1': 'y', 1.0: 'z'}, {(1, 2): 3}
namespace(a=1).a, namespace({'x': 2}).x, namespace(a=1).zz is defined, namespace() is mapping
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(2, first=true, blank=true), 'a\nb' | indent('> '), 'a' | indent(3, true), '' | indent(2, true)
'a b  c_d é-f' | wordcount, 'x'.join(['a', 'b']) | upper | lower | title
[1, [2, [3, {'k': (4,)}]]], [[]], [{}], [()], {'k': []}, [none, true, 1.5, 1e20]
undefined_thing == other_undefined, undefined_thing != none, [undefined_thing], undefined_thing ~ 'x', (undefined_thing or 'y'), not undefined_thing
'a' 'b' "c", 'line\
cont', '\u00e9\x41\101\n\t\\\'\"', '\d\é', "\U0001F30D"
(1), (1,), (), [1, 2,], {'a': 1,}, (1, 2), 1_000, 0x1F, 0b101, 0o17, 1_0.5_0, 1e-2, 00
messages[0]['role'] == 'user' and messages[-1].content != '', (messages | length - 1), messages[0:1] | length, messages | last | tojson
loop is defined, caller is defined, range is defined, dict is callable, namespace is callable
-n, +n, -pi, - 3 | abs, -3 ** 2, 2 ** 3 ** 2, 2 + 3 ~ 4, 1 ~ 2 + 3, 10 - 2 - 3, 2 * 3 % 4, not 1 == 2, 1 == 1 and 2 == 2 or x.y
n | string | length, (n ~ '') | int + 1, words | join | lower | replace('a', '') | length, [[1, 2], [3, 4]] | map('sum') | list, [[3, 1], [2]] | map('first') | list
s is string and s | length > 3, l is not string and l is iterable, d is mapping and 'a' in d and d['a'] is mapping
""".strip().split("\n")
# one expression spans two lines: a string with a line continuation
EXPRESSIONS = [e for e in "\n".join(EXPRESSIONS).replace("\\\ncont", "\\\x00cont").split("\n")]
EXPRESSIONS = [e.replace("\x00", "\n") for e in EXPRESSIONS]

STATEMENTS = [
    # white space control
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a {%- if yes -%} b {%- endif -%} c", "a\n{%+ if yes %}\n b{% endif %}\nc", "  {%+ if yes +%}\n x{% endif %}",
    "{# comment #}\nx {#- y -#} z\n  {# lone #}\nw", "{{ 1 }}\n{{ 2 }}\n\n", "{{- 1 -}}  {{- 2 }}", "x\n\n", "x\n", "\n", "", "{% raw %}{{ not }} {% this %}{% endraw %}",
    "  {% raw -%}\n  {{ x }}\n  {%- endraw %}\n y", "{%- raw %} a {# b #}{% endraw -%}\n  z", "{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}{{ y }}", "\t{% if yes %}\tz\t{% endif %}\t\nq",
    "{% if yes %}\n\n{% endif %}\n|", "a\r\nb\r{% if yes %}\r\nc{% endif %}", "{{ 'a\r\nb' }}", "{%if yes%}1{%endif%}{%-if yes-%} 2 {%-endif-%}", "{% if yes %}{# c #}\n{% endif %}x", " {#- a #} b", "{{ '{{' }}{{ '%}' }}", "{ { % % } }", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a':{'b':{}}} }}", "\u00a0{%- if yes %}\u2003{%- endif %}x",
    # if
    "{% if no %}a{% elif none_value %}b{% elif yes %}c{% else %}d{% endif %}", "{% if no %}a{% else %}b{% endif %}", "{% if no %}a{% endif %}", "{% if l %}l{% endif %}{% if empty_list %}e{% endif %}{% if empty_dict or '' %}x{% endif %}", "{% if undefined_thing %}a{% else %}b{% endif %}", "{% if 1, %}t{% endif %}", "{% if yes: %}colon{% endif %}",
    # for
    "{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}:{{ x }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for x in nums if x is odd %}{{ x }}{{ loop.index }}{{ loop.last }}{{ loop.length }},{% endfor %}", "{% for x in [] %}a{% else %}empty{% endfor %}", "{% for x in nums if x > 100 %}a{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}{{ v }}{% endfor %}", "{% for k in d %}{{ k }},{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, in [(1,), (2,)] %}{{ a }}{% endfor %}",
    "{% for x in nums %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% break %}{% else %}else{% endfor %}", "{% for x in l %}{% continue %}{% else %}else{% endfor %}", "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in undefined_thing %}a{% else %}b{% endfor %}", "{% for x in 'ab' %}{% for y in 'cd' %}{{ loop.index }}{{ x }}{{ y }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}", "{% for x in l | reverse %}{{ x }}{{ loop.last }}{% endfor %}", "{% for x in nums | select('odd') %}{{ loop.length }}{{ x }}{% endfor %}", "{% for x in nums %}{{ x }}{% if loop.index == 2 %}{{ loop.length }}{% endif %}{% endfor %}", "{% for x in l if loop is defined %}{{ x }}{% else %}no loop in test{% endfor %}", "{% for i in (1, 2) %}{% for x in l if x > loop.index %}{{ x }}{% endfor %};{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in l if yes else [] %}{{ x }}{% endfor %}", "{% set it = nums | map('string') %}{% for x in it %}{{ x }}{% endfor %}{% for x in it %}again{% else %}spent{% endfor %}", "{% for x in nums if x < 4 %}{{ x }}{% if loop.last %}.{% else %},{% endif %}{% endfor %}", "{% for x in rows %}{{ x.n }}{% for k in x %}{{ k }}{{ loop.index }}{% endfor %}{% endfor %}", "{% for x in [1] %}{{ loop }}{% endfor %}" [:0] or "{% for x in [1] %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    # set and scopes
    "{% set a = 1 %}{% for x in l %}{% set a = a + x %}{{ a }},{% endfor %}{{ a }}", "{% set ns = namespace(t=0, l=[]) %}{% for x in l %}{% set ns.t = ns.t + x %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.t }}{{ ns.l }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, (b, c) = 1, (2, 3) %}{{ a }}{{ b }}{{ c }}", "{% set a = (1, 2) %}{{ a }}", "{% set a = 1, 2 %}{{ a }}", "{% set t %}x{{ 1 + 1 }}y{% endset %}[{{ t }}]{{ t is string }}", "{% set t | upper | trim %} abc {% endset %}[{{ t }}]", "{% if yes %}{% set z = 5 %}{% endif %}{{ z }}", "{% for x in l %}{% if x == 1 %}{% set w = 'in' %}{% endif %}{{ w }}{% endfor %}{{ w is defined }}", "{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 2, 3 %}{{ ns.a }}{{ ns.b }}", "{% set n = n + 1 %}{{ n }}", "{% for x in l %}{{ n }}{% set n = x %}{{ n }};{% endfor %}{{ n }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% set c = 9 %}{% endwith %}{{ a is defined }}{{ c is defined }}", "{% with %}{% set n = 0 %}{{ n }}{% endwith %}{{ n }}", "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}", "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | trim %} aaa {% endfilter %}|", "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y is defined }}", "{% print 1, 'a', none_value %}", "{% set messages = messages[1:] %}{{ messages | length }}", "{% for i in l %}{% set ns2 = namespace(v=i) %}{% for j in l %}{% set ns2.v = ns2.v + j %}{% endfor %}{{ ns2.v }},{% endfor %}",
    # macros
    "{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(1, c='z') }}{{ f(a=5, b=6) }}{{ f() }}", "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ caller('x') }}{{ caller('y') }}{% endmacro %}{% call(v) f() %}<{{ v }}>{% endcall %}", "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, z=3) }}", "{% macro f(x) %}{% set n = x %}{{ n }}{% endmacro %}{{ f(1) }}{{ n }}", "{% macro f() %}{{ later }}{% endmacro %}{% set later = 'L' %}{{ f() }}", "{% macro f() %}[{{ n }}]{% endmacro %}{% for n in l %}{{ f() }}{% endfor %}", "{% macro f(a) %} {{ a }} {% endmacro %}{{ f(1) | trim }}{{ f(2) is string }}{{ f.name }}", "{%- macro f(x) -%}\n  {{- x -}}\n{%- endmacro -%}\n<{{ f('q') }}>", "{% for x in l %}{% macro g() %}{{ x }}{% endmacro %}{{ g() }}{% endfor %}", "{% macro outer() %}{% macro inner(x) %}({{ x }}){% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}", "{% macro f(a, b) %}{{ a is defined }}{{ b is defined }}{% endmacro %}{{ f(1) }}", "{% macro f(*args) %}{% endmacro %}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(*[1]) }}{{ f(**{'a': 2}) }}", "{% macro f(messages) %}{% for m in messages %}{{ m.role }}{{ loop.index }}{% endfor %}{% endmacro %}{% for m in messages %}{{ f(messages) }}{{ loop.index }}{% endfor %}", "{% set ns = namespace(c=0) %}{% macro f() %}{% set ns.c = ns.c + 1 %}{% endmacro %}{{ f() }}{{ f() }}{{ ns.c }}", "{% macro f() %}{{ n }}{% set n = 1 %}{{ n }}{% endmacro %}{{ f() }}", "{% if yes %}{% macro f() %}m{% endmacro %}{% endif %}{{ f() }}",
    "{% generation %}gen{{ n }}{% set q2 = 1 %}{% endgeneration %}{{ q2 is defined }}", "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration -%}{% endfor %}",
    "{% set s2 = namespace(x='') %}{% for w in words %}{% set s2.x = s2.x + w %}{% set keep = s2.x %}{% set s2.x = s2.x ~ '-' %}{{ keep }};{% endfor %}{{ s2.x }}",
    "{% set a = 'x' + s %}{% set b = a + '1' %}{% set c = a + '2' %}{{ a }}|{{ b }}|{{ c }}", "{% set a = l + [9] %}{% set b = a + [1] %}{% set c = a + [2] %}{{ a }}{{ b }}{{ c }}{{ a[1:] + [5] }}{{ b }}{{ l }}",
    # a store behind an inner scope hides what the caller gave
    "{% for x in l %}{{ n }}{% endfor %}{% set n = 1 %}{{ n }}", "{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{% set n = 1 %}{{ f() }}", "{% for x in l %}{% for y in l %}{{ n }}{% endfor %}{% set n = 1 %}{% endfor %}", "{{ n }}{% for x in l %}{{ n }}{% endfor %}{% set n = 1 %}", "{% if no %}{% set n = 1 %}{% endif %}{% for x in l %}{{ n }}{% endfor %}",
    "{% for x in l %}{{ n }}{% endfor %}{% if no %}{% set n = 1 %}{% endif %}{{ n }}", "{% set t %}{{ n }}{% endset %}{{ t }}{% set n = 2 %}{{ n }}", "{% for n in l %}{{ n }}{% endfor %}{{ n }}", "{% macro n() %}m{% endmacro %}{{ n() }}", "{% for x in l %}{{ n is defined }}{% endfor %}{% macro n() %}m{% endmacro %}",
]

# backslashes reach the template as they stand here
RAW = [
    r"{{ '\u00e9\x41\101\n\t\\\'\"\a\b\f\v\r' | tojson }}", r"{{ '\d\e\é\世\🌍' }}", r"{{ '\U0001F30D\7\777\08' | tojson }}", r"{{ '\xZZ' }}", r"{{ '\u12' }}", r"{{ '\U00110000' }}", r"{{ 'a\\' }}{{ '\\n' }}",
]
MORE = [
    "{{ '%(a)s %(b)d' | format(a=1, b=2) }}", "{{ '%s' | format(1, a=2) }}", "{{ '%*d|%.*f|%#x|%#o|%-5d|% d|%+d|%05.1f|%5s|%.2s' % (5, 42, 2, 3.14159, 255, 8, 3, 4, 5, 2.55, 'ab', 'abc') }}", "{{ '%d' % 3.99 }}{{ '%i' % true }}", "{{ '%x' % 3.5 }}", "{{ '%(zz)s' % d }}", "{{ '%(b)s %(k)s' % d }}", "{{ '%' % 1 }}", "{{ '%z' % 1 }}", "{{ '%a' % 'x' }}", "{{ '%s' % d }}", "{{ '%s' % l }}", "{{ '%s' % none_value }}", "{{ 'x' % l }}", "{{ '%*d' % ('a', 1) }}", "{{ '%c' % 'x' }}" [:0] or "{{ '%5%|' % () }}" [:0] or "{{ '%%' % () }}", "{{ '%d' % ('inf' | float) }}", "{{ '%f %e' % ('inf' | float, 'nan' | float) }}", "{{ '%G %E' % (1e-10, 12345.678) }}",
    "{{ '{:+d} {:-d} {: d} {:+}'.format(1, 2, 3, 4) }}", "{{ '{:#x} {:#b} {:b} {:o} {:X}'.format(255, 5, 5, 8, 255) }}", "{{ '{:010.3f}|{:<010}|{:=+6}|{:>+6}'.format(3.14159, 5, 7, 7) }}", "{{ '{:,.2f} {:,}'.format(1234567.891, 1234) }}", "{{ '{:e} {:g} {:.0f} {:.1%}'.format(12345.678, 0.00001, 2.5, 0.256) }}", "{{ '{} {:.3}'.format(1.0, 2.0) }}", "{{ '{0[0]} {0[1]} {1.k}'.format(l, d) }}", "{{ '{!s:>5}|{!r:5}|'.format('a', 'b') }}", "{{ '{'.format() }}", "{{ '}'.format() }}", "{{ '{:{}}'.format(1, 2) }}" [:0] or "{{ '{a.b}'.format(a=d) }}", "{{ '{zz}'.format(a=1) }}", "{{ '{!x}'.format(1) }}", "{{ '{:d}'.format('x') }}", "{{ '{:d}'.format(1.5) }}", "{{ '{:s}'.format(1) }}", "{{ '{:5}|'.format(l) }}", "{{ '{:5}|{:<5}|'.format(true, 1.5) }}", "{{ '{}'.format(none_value) }}", "{{ '{:é^5}'.format('x') }}", "{{ '{:.2}|{:5.1}|'.format('abc', 'xyz') }}", "{{ ('<{}>' | safe).format('<b>') }}", "{{ ('<a>' | safe).join(['<b>', 'c' | safe]) }}", "{{ ('a<' | safe).replace('a', '<') }}", "{{ ('<' | safe).split('x') }}", "{{ 'nan' | float == 'nan' | float }}",
    "{{ rows | map(attribute=0) | list }}", "{{ [[1, 2], [3, 4]] | map(attribute=1) | list }}", "{{ [[1, 2], [3, 4]] | map(attribute='0') | list }}", "{{ {'x': [5, 6]} | list }}{{ [{'x': [5, 6]}] | map(attribute='x.1') | list }}", "{{ rows | sort(attribute='g.h,v') | map(attribute='n') | join }}", "{{ l[5].x }}", "{{ l[5] + 1 }}", "{{ (rows | first).zz + 1 }}", "{{ [] | first + 1 }}", "{{ [] | last + 'a' }}", "{{ (1 if no) + 'a' }}", "{{ nums[9223372036854775807:] }}{{ nums[:-9223372036854775807] }}{{ nums[::9223372036854775807] }}{{ nums[::-9223372036854775807] }}",
    "{{ range(3) == range(3) }}{{ range(0) == range(5, 5) }}{{ range(0, 3, 2) == range(0, 4, 2) }}{{ range(3) == [0, 1, 2] }}{{ range(0) | list }}{% if range(0) %}x{% endif %}", "{{ namespace(a=1) == namespace(a=1) }}", "{{ range(4).index(2) }}{{ range(4).count(9) }}{{ range(4).index(9) }}", "{{ d.keys() }}{{ d.values() }}{{ {'a': 1}.items() }}", "{{ 'b' in d.keys() }}{{ 1 in d.values() }}{{ ('b', 1) in d.items() }}", "{{ 1.5 / 0.5 }}{{ 1.0 // 0.3 }}{{ -1.5 // 1 }}{{ 5 / 2.0 }}{{ 0.0 // 1 }}{{ -0.0 % 5 }}", "{{ 1.0 / 0 }}", "{{ 1.0 // 0 }}", "{{ 1.0 % 0 }}", "{{ 0 ** -1 }}", "{{ 10.0 ** 400 }}", "{{ 2 ** 3.5 }}{{ 0 ** 0 }}{{ (-8) ** 3 }}{{ (-2) ** -2 }}", "{{ 'a' * 2.0 }}", "{{ [1] - [1] }}", "{{ {} + {} }}", "{{ none_value + 1 }}",
    "{{ '0b101' | int(base=2) }}{{ '0o17' | int(base=8) }}{{ '0x1F' | int(base=0) }}{{ '12' | int(base=0) }}{{ 'zz' | int(base=36) }}{{ '9' | int(7, 8) }}{{ '' | int(4) }}{{ '-' | int(4) }}{{ 'inf' | int(9) }}{{ 'nan' | int(9) }}{{ '1_0_0' | int }}{{ '_1' | int(5) }}{{ '0x10' | int }}{{ '١' | length }}", "{{ 1e300 | int(0) | string | length }}" [:0] or "{{ 1e15 | int }}{{ -2.7 | int }}", "{{ 'İ' | lower | length }}{{ 'İ' | lower }}{{ 'ΑΣ.' | lower }}{{ 'Σ' | lower }}{{ 'ΣΑ' | lower }}", "{{ 'x' in undefined_thing }}{{ undefined_thing in [1] }}", "{{ undefined_thing in 'abc' }}", "{{ l | join(undefined_thing) }}{{ l | join(none_value) }}", "{{ 5 in range(10) }}{{ 'x' in (l | map('string')) }}", "{{ s.rindex('o') }}{{ s.find('o', -3, 100) }}{{ s.find('o', 0, -5) }}{{ s.count('o', 5) }}{{ s.rfind('o', 0, 5) }}{{ u.find('界', 3, 100) }}", "{{ s.rindex('q') }}", "{{ u | reverse }}{{ u | last }}{{ u | first }}{{ '世界' | last }}",
    "{{ d['a', 'b'] is defined }}{{ {(1, 2): 'x'}[1, 2] }}", "{{ rows.0.n }}{{ l.1 }}{{ rows.0.g.h }}", "{{ x.y.z is defined }}", "{{ 'a' is nope.dotted }}", "{{ 'a' | nope.dotted }}", "{{ (s | upper)() }}", "{{ s | upper() }}{{ s | trim() | lower() }}", "{{ f(1)(2) }}", "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ f(1, *[2]) }}{{ f(*[1], **{'b': 5}) }}{{ f(a=1, **{'b': 6}) }}", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "{% macro f(x) %}{{ x }}{{ caller(1, k=2) }}{% endmacro %}{% call(a, b=3, k=0) f(x='q') %}{{ a }}{{ b }}{{ k }}{% endcall %}", "{% macro f() %}{{ kwargs.a }}{{ varargs | length }}{% endmacro %}{{ f(1, 2, a='K') }}", "{{ f(**5) }}", "{{ dict(**{'a': 1}) }}{{ dict(*[[('x', 1)]]) }}", "{% set a, b, c, dd, e = 1, 2, 3, 4, 5 %}{% for x in [1] %}{% set p = 1 %}{% set q2 = 2 %}{% set r = 3 %}{% set t = 4 %}{% set v = 5 %}{{ p + q2 + r + t + v + a }}{% endfor %}", "{% for x in l %}{% set z %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endset %}[{{ z }}]{% endfor %}", "{% filter length %}abc{% endfilter %}", "{{ nums | map('reverse') }}" [:0] or "{{ 'abc' | map('upper') | reverse }}", "{{ 5 | reverse }}", "{{ (nums | select('even')) | reverse | join(',') }}", "{{ [5] | map('nope') | first }}", "{{ [] | map('nope') | list }}{{ none_value | map('upper') | list }}{{ 0 | select | list }}", "{{ 5 | map('upper') | list }}", "{{ [1, 2] | map(attribute='x', nope=1) | list }}", "{{ [1] | map | list }}", "{{ [1] | map(5) | list }}", "{{ rows | selectattr | list }}", "{{ [1] | select(5) | list }}", "{{ 5 | items | list }}", "{{ ('nan' | float) | tojson }}{{ ('inf' | float) | tojson }}{{ ('-inf' | float) | tojson }}", "{{ '😀\u0080' | tojson(true) }}", "{{ [1, 'a', none] | tojson(sort_keys=true) }}{{ {'b': 1, 1: 2} | tojson(sort_keys=true) }}", "{{ d | tojson(indent=true) }}", "{{ l | tojson(separators=[1, 2]) }}", "{{ (l, {'a': (1,)}) | tojson(indent=1) }}", "{{ 1_0 + 0XfF + 0B1 + 0O7 + 1E2 + 1.5e+1 }}", "{{ 1__0 }}", "{{ 1.e5 }}", "{{ .5 }}", "{{ 0777 }}", "{{ größe is defined }}{% set größe = 5 %}{{ größe }}", "{{ a.größe is defined }}", "{{ 1 if 2 if 3 else 4 else 5 }}", "{% if 1 in [1] and not 2 in [1] or x.y %}ok{% endif %}", "{{ not x is defined and 1 }}{{ 1 is not defined }}{{ 2 is not even and 3 is odd }}", "{{ 'a' is in 'abc' and 'd' is not in 'abc' }}", "{{ -1 | abs }}{{ -(1) | abs }}{{ (-1) | abs }}{{ --1 }}{{ +-+1 }}", "{{ s | replace('l', '') | replace('o', 'é') | length }}", "{{ ['', 'a'] | select | list }}{{ [0, 1, none, 2] | select('number') | list }}{{ ['a', 'B'] | select('lower') | list }}",
]

# refused by both, when compiled or when rendered
ERRORS = [
    "{{ undefined_thing.x }}", "{{ undefined_thing + 1 }}", "{{ undefined_thing() }}", "{{ none_value.x.y }}", "{{ d.zz.y }}", "{{ l.append(1) }}", "{{ d.update(a=1) }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ [] + () }}", "{{ 1 < 'a' }}", "{{ none_value < 1 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1 in 5 }}", "{{ 1 in 'a' }}", "{{ l | tojson(indent=[]) }}" [:0] or "{{ undefined_thing | tojson }}", "{{ {[1]: 2} }}", "{{ {(1, 2): 3} | tojson }}", "{{ range(1000000) }}", "{{ raise_exception('stop <here>') }}", "{% if messages[0].role != 'system' %}{{ raise_exception('System first, not ' ~ messages[0].role) }}{% endif %}", "{{ 5() }}", "{{ s() }}", "{{ 5 | length }}", "{{ none_value | length }}", "{{ nums | map('odd') | length }}", "{{ (nums | map('string')) | length }}", "{{ 5 | first }}", "{{ none_value | join }}", "{% for x in 5 %}{% endfor %}", "{% for x in none_value %}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% set a, b = [1] %}", "{% set a, b = 1, 2, 3 %}", "{{ s | nope }}", "{% if no %}{{ s | nope }}{% endif %}{{ 1 | nope2 }}", "{% if yes %}{{ s | nope }}{% endif %}", "{{ s is nope }}", "{{ nums | map('nope') | list }}", "{{ nums | select('nope') | list }}", "{{ s.split('') }}", "{{ s[1:'a'] }}", "{{ s[::0] }}", "{{ none_value[1:] }}", "{{ d[1:] }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % 'x' }}", "{{ '%s' % (1, 2) }}", "{{ '{} {}'.format(1) }}", "{{ words | sort(attribute='x.y') }}", "{{ mixed | sort }}", "{{ [1, 'a'] | max }}", "{{ ['a'] | sum }}", "{{ -s }}", "{{ none_value | abs }}", "{{ 's' | round }}", "{{ s | replace('a') }}", "{{ s.replace('a') }}", "{{ s.startswith(1) }}", "{{ ''.join([1]) }}", "{{ s.index('zz') }}", "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", "{% macro f(a=1, b) %}{% endmacro %}", "{% set x.y = 1 %}", "{% set s.y = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}", "{{ namespace(_a=1) }}",
    "{% if yes %}", "{% endif %}", "{% for x in l %}", "{% for %}{% endfor %}", "{{ ", "{{ 1 ", "{% if %}{% endif %}", "{# x", "{% raw %}x", "{{ ) }}", "{{ (1 }}", "{{ [1) }}", "{{ 'a }}", "{{ 1 2 }}", "{{ a b }}", "{{ x. }}", "{{ x.'a' }}", "{{ | upper }}", "{{ 1 + }}", "{{ }}", "{% nope %}", "{% set 1 = 2 %}", "{% set x %}", "{% block a %}{% endif %}", "{% break %}", "{% macro f( %}{% endmacro %}", "{% macro %}{% endmacro %}", "{{ f(a=1, 2) }}", "{{ f(**a, **b) }}", "{{ 1 if }}", "{{ ! }}", "{{ a ? b }}", "{{ x is }}", "{{ x is string is defined }}", "{% else %}", "{% for x in l %}{% elif %}{% endfor %}", "{% call f %}{% endcall %}", "{{ a = 1 }}", "{% if x = 1 %}{% endif %}", "{{ {1, 2} }}", "{{ {'a': } }}", "{{ [1,,2] }}", "{% include 'x' %}", "{% extends 'x' %}", "{% set x = %}", "{% endset %}", "{{ '\\N' }}", "{{ '\\x1' }}", "{% filter %}{% endfilter %}", "{{ {} | dictsort('x', 'y') }}", "{{ undefined_thing | dictsort }}", "{{ l | dictsort }}", "{{ d | first | nope3 }}", "{{ s | int(0, 'x') }}", "{{ undefined_thing | int }}", "{{ 'a' is divisibleby 2 }}", "{{ none_value is odd }}", "{{ strftime_now() }}", "{{ x.__class__.y }}", "{{ s.__class__.y }}", "{{ loop.index }}", "{% for x in l recursive %}{{ loop([1]) }}{% endfor %}{{ undefined_thing.x }}",
]


def cases():
    """Yields (template, context) pairs."""
    for e in EXPRESSIONS:
        yield "{{ (%s) | string }}" % e if e.count(",") else "{{ %s }}" % e, ctx()
        depth = 0
        start = 0
        quote = ""
        parts = []
        for i, c in enumerate(e):
            if quote:
                if c == quote and e[i - 1] != "\\":
                    quote = ""
            elif c in "'\"":
                quote = c
            elif c in "([{":
                depth += 1
            elif c in ")]}":
                depth -= 1
            elif c == "," and depth == 0:
                parts.append(e[start:i])
                start = i + 1
        parts.append(e[start:])
        for p in parts:
            yield "{{ %s }}" % p.strip(), ctx()
    for t in STATEMENTS + RAW + MORE + ERRORS:
        yield t, ctx()

"""Writes chat-cases.json and jinja-cases.json: templates, what they are given, and what jinja2 makes of them."""
import datetime
import json
import os

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = datetime.datetime(2024, 9, 5, 15, 4, 9)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: NOW.strftime(form)
    return env


def render(template, variables):
    """The text, or None where Jinja raises an error."""
    try:
        return environment().from_string(template).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ArithmeticError):
        return None


def message(role, content, **more):
    return {"role": role, "content": content, **more}


TOOLS = [
    {"type": "function", "function": {"name": "add", "description": "Adds <two> numbers & \"more\" – ü 😀", "parameters": {
        "type": "object", "properties": {"a": {"type": "number", "default": 0.5}, "b": {"type": "integer", "maximum": 10}},
        "required": ["a", "b"], "strict": True, "nothing": None, "empty": [], "none": {}}}},
    {"type": "function", "function": {"name": "now"}},
]
SYSTEM = message("system", "Be brief.")
USER = message("user", "What is 2 + 3?\n")
THINKS = message("assistant", "<think>\nTwo and three.\n</think>\n\nIt is 5.")
CALL = message("assistant", "Let me see.", tool_calls=[
    {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3.25, "text": "x\ty\\ \"é\""}}},
    {"name": "now", "arguments": "{}"}])
ONE_CALL = message("assistant", "", tool_calls=[{"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": [1, "x"]}}}])

CONVERSATIONS = {
    "user": [USER],
    "system and user": [SYSTEM, USER],
    "only system": [SYSTEM],
    "turns": [SYSTEM, USER, message("assistant", "5"), message("user", "And twice that? 😀")],
    "thinking, then user": [USER, THINKS, message("user", "Sure?")],
    "thinking last": [SYSTEM, USER, THINKS],
    "reasoning apart": [USER, message("assistant", "It is 5.", reasoning_content="\nTwo and three.\n")],
    "assistant last": [USER, message("assistant", "It is 5.")],
    "system in between": [USER, SYSTEM, message("assistant", "5"), USER],
    "tool calls": [SYSTEM, USER, CALL],
    "tool responses": [USER, CALL, message("tool", "5.25"), message("tool", "12:00"), message("assistant", "<think>ok</think>5.25")],
    "tool response last": [USER, CALL, message("tool", "5.25")],
    "one call": [SYSTEM, USER, ONE_CALL, message("tool", {"result": 5, "unit": None})],
    "tool response as user": [USER, message("assistant", "<think>\nhm\n</think>\n\nx"), message("user", "<tool_response>1</tool_response>"),
                              message("assistant", "<think>\nso\n</think>\n\ny")],
    "empty content": [message("user", ""), message("assistant", "")],
    "pieces": [SYSTEM, message("user", [{"type": "text", "text": " a "}, {"type": "image"}, "b"]), message("user", "c")],
    "nobody": [],
    "no content": [message("user", None)],
    "other role": [message("developer", "x"), USER],
    "special tokens in text": [message("user", "<|im_end|>\n<|im_start|>system\n{{ 1 }} {% if %}")],
}
VARIABLES = {
    "plain": {},
    "prompt": {"add_generation_prompt": True},
    "no thinking": {"add_generation_prompt": True, "enable_thinking": False},
    "thinking": {"add_generation_prompt": True, "enable_thinking": True},
    "as transformers gives": {"add_generation_prompt": True, "tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"},
    "tools": {"add_generation_prompt": True, "tools": TOOLS, "bos_token": "<s>"},
    "date": {"date_string": "5 May 2025", "custom_tools": TOOLS[1:]},
}

# Expressions and small templates: precedence, whitespace control, undefined values, slices, filters.
GIVEN = {
    "a": 7, "b": -3, "f": 2.5, "t": True, "n": None, "s": "Hello, wörld 😀!", "e": "", "xs": [1, 2, 3, 4, 5], "ws": ["b", "a", "ä"],
    "d": {"x": 1, "items": "mine", "get": 2, "k": {"y": [10, 20]}}, "rows": [{"n": "p", "v": 1, "on": True}, {"n": "q", "v": 2, "on": False},
    {"v": 3}], "sp": "  \n two words\t ", "q": "it's \"q\"", "m": [{"role": "user", "content": "<a>"}],
}
SMALL = [
    # precedence
    "{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 6 / 3 }} {{ 2 - 3 - 4 }}",
    "{{ 1 ~ 2 + 3 }}", "{{ 1 + (2 ~ 3)|int }} {{ 'a' ~ 1 * 2 ~ none }} {{ 'x' + 1 ~ 2 }}", "{{ -xs|length }}",
    "{{ xs|length - 1 }} {{ -a|string ~ 'x' }} {{ - a }} {{ +a }}",
    "{{ not a == 7 }} {{ not t and n }} {{ t or n and 0 }} {{ n or e or 'z' }} {{ a and f }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 in xs }} {{ 3 not in xs }} {{ not 3 in xs }} {{ 1 == 1.0 == true }}",
    "{{ 'a' if n else 'b' }} {{ 'a' if n }}| {{ 'x' if a > 3 else 'y' if a > 1 else 'z' }}",
    "{{ (a is defined) and b is not none }} {{ not n is none }} {{ a is number == true }} {{ n is none or zz }}",
    "{{ a is eq 7 }} {{ a is eq(7) }} {{ a is in xs }} {{ 3 is in xs and t }} {{ a is gt 3 and a is lt 9 }}",
    "{{ 'b' < 'a' }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ '\uffee' < '😀' }} {{ 1 <= 1.0 }} {{ a != b }}",
    "{{ t + 1 }} {{ true is true }} {{ 1 is true }} {{ t == 1 }} {{ a // 2.0 if false else 'lazy' }}",
    "{{ 'ab' 'cd' }} {{ 'a' * 3 }} {{ [1] + [2] }} {{ (1, 2) + (3,) }} {{ 1, 'x' }}",
    # literals
    "{{ 'a\\n\\t\\\\\\'\\\"\\x41\\u00e9\\d' }}|{{ \"it's\" }}|{{ '' }}",
    "{{ [1, 'a', 2.5, true, none, ['b'], {'k': 'v', 2: ()}, (1,), ()] }}",
    "{{ 1.0 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1e16 }} {{ 123456789.125 }} {{ 0.1 + 0.2 }} {{ 2e22 }} {{ 0.0001 }} {{ 5e-324 }} {{ 100 / 3 }}",
    "{{ [q, s, 'a\\nb', '\\u200b', '\\x7f'] }} {{ True }} {{ False }} {{ None }}",
    "{{ {'a': {'b': 1}} }}{{ {'a': 1}['a'] }}{{ {}|length }}",
    # members
    "{{ d.x }} {{ d['items'] }} {{ d.k.y[1] }} {{ d['k']['y'][-1] }} {{ d.get('x') }} {{ d.get('zz', 5) }} {{ d.get('zz') }} {{ xs.0 }}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {{ d.keys()|list }} {{ d.values()|list|length }} {{ d|items|list|length }}",
    "{{ s[0] }} {{ s[-2] }} {{ s[7:12] }} {{ s[::-1] }} {{ s|length }} {{ s[13] }} {{ s[-2:] }}",
    "{{ xs[1:] }} {{ xs[:-1] }} {{ xs[::2] }} {{ xs[::-1] }} {{ xs[3:0:-1] }} {{ xs[-2:] }} {{ xs[9:] }} {{ xs[1:3] }} {{ xs[:] }} {{ xs[-9:2] }}",
    "{{ xs[9] }}|{{ xs['a'] }}|{{ d.zz }}|{{ d['zz'] }}|{{ s.zz }}|{{ a.zz }}|{{ n.zz }}|{{ d[3] }}",
    # undefined
    "[{{ zz }}] {{ zz is defined }} {{ zz is undefined }} {{ d.zz is defined }} {{ zz == yy }} {{ zz == none }} {{ not zz }} {{ zz|length }}",
    "{% for x in zz %}x{% else %}none{% endfor %} {{ zz|default('d') }} {{ e|default('d') }}|{{ e|default('d', true) }} {{ n|d(1) }}",
    "{{ zz ~ 'a' }} {{ zz is none }} {{ zz is string }} {{ zz is iterable }} {{ zz is mapping }} {{ zz is sequence }} {{ 'a' in zz }}",
    "{{ zz.yy }}", "{{ zz['yy'] }}", "{{ zz() }}", "{{ zz + 1 }}", "{{ zz < 1 }}", "{{ d.zz.yy }}", "{{ zz|tojson }}", "{{ n + 1 }}",
    "{{ 'a' + 1 }}", "{{ n.x.y }}", "{{ n|length }}", "{{ a[0:1] }}", "{{ 1 // 0 }}", "{{ 'x' in 5 }}", "{{ none in 'abc' }}",
    "{{ raise_exception('no') }}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{{ xs.append(1) }}", "{{ [] < 1 }}",
    "{{ xs[none:2] }} {{ xs[1::] }} {{ xs[::-2] }} {{ xs[4:1:-1] }} {{ xs[-1:-4:-1] }} {{ s[-1:0:-3] }} {{ (1, 2, 3)[1:] }} {{ ''[5:] }}", "{{ xs[::0] }}",
    "{{ d['k'].y.0 }} {{ (xs)[0] }} {{ 'abc'[1] }} {{ [1, 2][1] }} {{ {'a': 5}.a }} {{ ('x' ~ 'y').upper() }} {{ d.k.y|length > 1 }}",
    "{{ -2 * -3 }} {{ 2 - -1 }} {{ - 2|string }} {{ (-2)|string ~ 1 }} {{ not not 1 }} {{ -0.0 }} {{ 7 // -2 }} {{ 7 % -3 }}",
    "{{ 1 if true else 2 if true else 3 }} {{ (1 if false) is defined }} {{ [1 if n else 2, 3] }} {{ 'x' if 'a' in 'abc' and not n else 'y' }}",
    "{{ a is not none and a is not string }} {{ a is not defined or zz is not defined }} {{ not a is string }} {{ 'a' is in('abc') }} {{ xs is not mapping }}",
    # whitespace
    "a  {%- if t %}  b  {%- endif -%}  c", "a\n  {% if t %}\n  b\n  {% endif %}\nc\n", "a\n  {%+ if t %}\n  b\n  {% endif +%}\nc\n\n",
    "  {{ a }}  \n  {{- a -}}  \n  x", "x {# c #} y\n  {# line #}\nz {#- c -#}  w\n{#-#}q{#+ #}\n", "{% if t %}\n\n a{% endif %}\n\nb",
    "  {% if t %}x{% endif %}  {% if t %}y{% endif %}\n{% set z = 1 %}\n {% set z = 2 %} {{ z }}\r\n  {% if t %}\r\nq{% endif %}",
    "{{ '{{' }} {{ '%}' }} { {a} }} %} #}", "{%if t%}1{%else%}2{%endif%}{%-if n-%} 3 {%-elif t-%} 4 {%-else-%} 5 {%-endif-%} ",
    "a\u00a0\u2003{%- if t %}b{% endif %}\n\x0b{% if t %}c{% endif %}",
    "\n\n{% if t %}\n\n{% endif %}\n\n", " {%- set x = 1 -%} \n {{- x }}\n\t{%- if t -%}\n y \n{%- endif +%}\n z", "{{ a }}\n{{ a }}\n\n", "x{%- if t +%}\n y{%+ endif %}z",
    "{#- a #}\n b {# c -#}\n d\n   {#+ e #}\nf {%- if t %} {# g #}\n{% endif %}", "\t{% if t %}a{% endif %}\r\rb", "{{- ' a ' -}}  {{ 'b' }}\n",
    "  {{ a }}{% if t %}  {% endif %}  \n  {%- if t %}\n{% endif -%}\n\n q", "{% set x = '%}' %}{{ x }}{{ '}}' }}{{ {'a': {}}|length }}{{ \"#}\" }}",
    # loops and scopes
    "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in xs if x % 2 %}{{ loop.index }}:{{ x }}{{ loop.previtem }}{{ loop.nextitem }}{{ ',' if not loop.last }}{% endfor %}",
    "{% set z = 0 %}{% for x in xs %}{% set z = z + x %}{{ z }} {% endfor %}{{ z }}",
    "{% set z = namespace(v=0) %}{% for x in xs %}{% set z.v = z.v + x %}{% endfor %}{{ z.v }} {{ z.w }}",
    "{% for x in xs %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for a in [1, 2] %}{% for b in 'xy' %}{{ loop.index }}{{ a }}{{ b }}{% endfor %}{{ loop.index }} {% endfor %}{{ a }}{{ b }}",
    "{% for k in d %}{{ k }} {% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
    "{% if t %}{% set new = 1 %}{% endif %}{{ new }}{% for x in [] %}{% set w = 1 %}{% else %}{% set w = 2 %}{{ w }}{% endfor %}[{{ w }}]",
    "{% set x, y = 1, 2 %}{{ x }}{{ y }}{% set (p, q) = [y, x] %}{{ p }}{{ q }}{% set z %}  a{{ x }} {% endset %}[{{ z }}]{{ z is string }}",
    "{% for x in xs %}{{ y }}{% set y = x %}{{ y }}{% endfor %}{{ y }}", "{% for x in (1, 2) %}{{ x }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% macro g(x, y=2, z=y) %}{{ x }}-{{ y }}-{{ z }}{{ a }}{% set a = 1 %}{% endmacro %}{{ g(1) }} {{ g(1, z=3) }} {{ g(y=5, x=4) }}[{{ g() }}]{{ a }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(4) }}{% set r = f(1) %}{{ r|length }}",
    "{% macro f(n) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(n) %}{% endmacro %}{{ f(k=2) }}",
    "{% macro show(x) %}{{ x }}{{ top }}{% endmacro %}{% set top = 'T' %}{{ show(1) }}{% for top in [1] %}{{ show(2) }}{% endfor %}",
    "{% for x in xs %}{% for y in ws %}{% if y == 'a' %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% else %}no{% endfor %}",
    "{% set ns = namespace() %}{% set ns.a = [1] %}{% set ns.a = ns.a + [2] %}{{ ns.a }}{{ ns.b is defined }}", "{% set n.x = 1 %}",
    "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}{{ inner is defined }}",
    "{% for x in xs if loop.first %}{% endfor %}", "{% for k in {'b': 1, 'a': 2} %}{{ loop.last }}{{ k }}{% endfor %}", "{{ loop.index }}",
    "{% for x in [[1, [2, 3]]] %}{{ x[1][-1] }}{% endfor %}{% for i, (j) in [(1, 2)] %}{{ i }}{{ j }}{% endfor %}{% for i, (j, k) in [(1, (2, 3))] %}{{ i }}{{ j }}{{ k }}{% endfor %}{% set (q,) = [9] %}{{ q }}",
    "{% set z %}{% for x in xs %}{{ x }}{% set q = 1 %}{% endfor %}{% endset %}{{ z }}{{ q }}", "{% if zz %}a{% elif zz is none %}b{% elif not zz %}c{% endif %}",
    # filters, tests, methods
    "[{{ sp|trim }}] [{{ sp.strip() }}] [{{ sp.lstrip() }}] [{{ sp.rstrip() }}] [{{ 'xxaxx'|trim('x') }}] [{{ 'xyaxy'.strip('yx') }}] {{ 5|trim }}",
    "{{ d|tojson }} {{ s|tojson }} {{ q|tojson }} {{ [1.0, n, t, 1e20, '\\x7f\\u2028</a>\\b\\f\\x01']|tojson }} {{ {2: [], 'a': {}}|tojson }}",
    "{{ d|tojson(indent=2) }} {{ [[], {}, [1]]|tojson(indent=0) }} {{ 'a'|tojson|length }} {{ rows|tojson(indent=4) }}",
    "{{ ws|join }} {{ ws|join(', ') }} {{ xs|join('-') }} {{ rows|join('|', attribute='v') }} {{ ', '.join(ws) }} {{ 'abc'|join('.') }} {{ [n, t]|join(' ') }}",
    "{{ 'aß ÉİX'|upper }} {{ 'AÉX'|lower }} {{ 'hELLO wORLD'|capitalize }} {{ \"they're (good-old) x\"|title }} {{ 'éa'|capitalize }}",
    "{{ \"they're (good-old) 1st\".title() }} {{ 'aB'.upper() }} {{ 'aB'.lower() }} {{ 'aB cD'.capitalize() }}",
    "{{ '5'|int + 1 }} {{ '5.9'|int }} {{ 'x'|int }} {{ 'x'|int(3) }} {{ 5.9|int }} {{ -5.9|int }} {{ n|int }} {{ '1.5'|float }} {{ 'x'|float }} {{ ' 7 '|int }}",
    "{{ xs|first }} {{ xs|last }} {{ 'abc'|first }} {{ 'abc'|last }} {{ []|first }}|{{ d|list }} {{ 'abc'|list }} {{ d|first }}",
    "{{ rows|map(attribute='v')|list }} {{ rows|map(attribute='n', default='-')|join }} {{ ws|map('upper')|join }} {{ [d]|map(attribute='k.y.0')|list }}",
    "{{ rows|selectattr('on')|map(attribute='n')|list }} {{ rows|rejectattr('on')|list|length }} {{ rows|selectattr('v', 'gt', 1)|list|length }} {{ rows|selectattr('n', 'defined')|list|length }} {{ rows|selectattr('n', 'equalto', 'q')|list }}",
    "{{ xs|select('odd')|list }} {{ xs|reject('odd')|list }} {{ [0, 1, '']|select|list }} {{ xs|select('in', [2, 3])|list }} {{ 4 is divisibleby 2 }} {{ a is even }}",
    "{{ 'a-b-c'|replace('-', '+') }} {{ 'a-b-c'|replace('-', '+', 1) }} {{ 'a-b-c'.replace('-', '') }} {{ 'aaa'.replace('aa', 'b') }} {{ '<b>'|safe }} {{ 155|replace(5, 6) }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ ''.split(',') }} {{ ''.split() }} {{ 'a b  c '.split(none, 1) }}",
    "{{ s.startswith('He') }} {{ s.endswith('!') }} {{ s.startswith(('x', 'H')) }} {{ ''.startswith('') }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }}",
    "{% for v in [a, f, t, n, s, xs, d, (1,), range(2), zz] %}{{ v is string }}{{ v is mapping }}{{ v is iterable }}{{ v is number }}{{ v is boolean }}{{ v is integer }}{{ v is float }}{{ v is none }}{{ v is true }}{{ v is false }} {% endfor %}",
    "{% for v in [f, t, n, s, xs, d, (1,)] %}{{ v is sequence }} {% endfor %}{{ xs == [1, 2, 3, 4, 5] }} {{ (1,) == [1] }} {{ d == d }} {{ {'a': 1} == {'a': 1.0} }} {{ 'x' == 1 }}",
    "{{ strftime_now('%d %b %Y, %A %B %H:%M:%S %y-%m %j %I%p %a %%') }} {{ dict(a=1, b='x') }} {{ range(4)|list }} {{ range(4)|length }}",
    "{{ 'x' in d }} {{ 'x' in s }} {{ 'wör' in s }} {{ '' in e }} {{ 1 in (1, 2) }} {{ 'a' not in 'b' }} {{ [1] in [[1], 2] }} {{ none in [none] }}",
    "{{ m[0].content }} {{ m[0]['content'] ~ '&' }} {{ m|map(attribute='role')|first }} {{ [3, 1]|length ~ '' }} {{ m[-1:][0].role }}",
    "{% set xs = xs[1:] %}{{ xs }}{% set xs = [0] + xs %}{{ xs }}{% if xs|length > 3 and (xs[0] == 0 or xs[99].q) %}y{% endif %}",
    "{% if a == 7 and not (e or n) %}1{% endif %}{% if a, b %}2{% endif %}{% if 'x' is string and 'y' is not mapping %}3{% endif %}{{ a if a is defined else 'u' }}",
]
# What Jinja can and we do not: an error at compile or render time, never other text.
NOT_SUPPORTED = [
    "{% include 'x' %}", "{% block b %}{% endblock %}", "{% raw %}{{ a }}{% endraw %}", "{% with z = 1 %}{{ z }}{% endwith %}",
    "{{ xs|sum }}", "{{ xs|sort }}", "{{ xs|map('nonesuch')|list }}", "{{ a is nonesuch }}", "{{ 2 ** 3 }}", "{{ '%s' % a }}",
    "{{ '{}'.format(a) }}", "{{ xs|map('string') }}", "{{ d.items() }}", "{{ range(3) }}", "{{ s.upper }}", "{{ d.items is defined and d.items }}",
    "{{ 9223372036854775807 + 1 }}", "{{ loop.cycle }}", "{% for x in xs recursive %}{% endfor %}", "{{ s|safe + '<a>' }}",
    "{{ s|tojson(separators=(',', ':')) }}", "{{ s.__class__ }}", "{% call f() %}{% endcall %}", "{{ f(*xs) }}", "{{ lipsum(1) }}",
    "{% set g = xs|map('string') %}{{ g|join }}{{ g|join }}", "{% set z | upper %}a{% endset %}", "{{ strftime_now('%s') }}", "{{ s|trim(x=1) }}",
    "{{ -zz }}", "{% filter upper %}a{% endfilter %}", "{{ a", "{% if a %}", "{# x", "{{ 'a }}", "{% endif %}", "{{ }}", "{{ a b }}", "{{ (1 }}",
    "{% for x in xs %}{% endif %}", "{% set loop = 1 %}", "{% set 1 = 1 %}", "{% %}", "{{ a ? b }}", "{% break %}", "{{ a | }}", "{{ xs[1:2:3:4] }}",
]


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as out:
        json.dump(value, out, ensure_ascii=False, indent=1)
        out.write("\n")


def main():
    cases = []
    for name in ("qwen3", "older", "other", "calls"):
        with open(os.path.join(HERE, name + ".jinja"), encoding="utf-8", newline="") as file:
            template = file.read()
        for said, messages in CONVERSATIONS.items():
            for how, variables in VARIABLES.items():
                if name in ("qwen3", "calls") and how == "date" or name == "other" and how in ("tools", "date", "no thinking", "thinking"):
                    continue
                cases.append({"template": name, "conversation": said, "variables": how,
                              "expected": render(template, {"messages": messages, **variables})})
    write("chat-cases.json", {"conversations": CONVERSATIONS, "variables": VARIABLES, "cases": cases})
    small = [{"template": t, "expected": render(t, GIVEN)} for t in SMALL]
    write("jinja-cases.json", {"given": GIVEN, "cases": small, "errors": NOT_SUPPORTED})
    print(len(cases), sum(c["expected"] is None for c in cases), len(small), [c["template"] for c in small if c["expected"] is None])


main()

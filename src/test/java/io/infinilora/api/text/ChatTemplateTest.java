package io.infinilora.api.text;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.time.Clock;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What chat templates use of Jinja. Expected texts were made with Python's jinja2 3.1.6. */
class ChatTemplateTest {
  private static final List<Map<String, Object>> MESSAGES =
      List.of(
          Map.of("role", "user", "content", " hi {{ 7*7 }} "),
          Map.of("role", "assistant", "content", "yo"));

  private static String render(String source, Map<String, Object> arguments) {
    return new ChatTemplate(
            source,
            "<s>",
            "</s>",
            Clock.fixed(Instant.parse("2025-03-09T04:05:06Z"), ZoneOffset.UTC))
        .render(MESSAGES, true, arguments);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '§',
      quoteCharacter = '`',
      value = {
        "{{ bos_token }}{{ eos_token }}                                    § <s></s>",
        "{{ messages[0].content }}|                                        § ` hi {{ 7*7 }} |`",
        "{{ messages[0]['content'] | trim }}|                              § hi {{ 7*7 }}|",
        "{{ messages[1:][0].content }}                                     § yo",
        "{{ messages[-1].role }}                                           § assistant",
        "{% for m in messages[::-1] %}{{ m.role }},{% endfor %}            § assistant,user,",
        "{{ messages[::-1][0].content }}                                   § yo",
        "{% for m in messages if m.role == 'user' %}{{ m.role }}{{ loop.length }}{% endfor %} § user1",
        "{% for m in (messages if 1 == 1 else []) %}{{ loop.index0 }}{% endfor %} § 01",
        "{% for m in messages %}{{ loop.index }}{% if loop.first %}f{% endif %}{% if loop.last %}l{% endif %}{% endfor %} § 1f2l",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }} § 2",
        "{% set ns = namespace(a=[1, 2][0], b=messages|length - 1, c='x,)') %}{{ ns.a }}{{ ns.b }}{{ ns.c }} § 11x,)",
        "{% if nope is defined %}a{% else %}b{% endif %}                   § b",
        "{% if not nope is defined and nope is none %}a{% endif %}b        § ab",
        "{% if messages is not none %}a{% endif %}                         § a",
        "{% if 'b' in 'abc' and 'role' in messages[0] %}a{% endif %}       § a",
        "{% if 'z' not in 'abc' %}a{% endif %}                             § a",
        "{% if messages[0].content is string %}s{% endif %}                § s",
        "{% if messages is iterable and messages[0] is mapping %}m{% endif %} § m",
        "{{ 'a' ~ 1 ~ 'b' }}                                               § a1b",
        "{{ 'x' if add_generation_prompt else 'y' }}                       § x",
        "{{ 'abc'.startswith('ab') and 'abc'.endswith('bc') }}     § true",
        "{{ '  a '.strip() }}|{{ '  a '.lstrip() }}|{{ ' a '.rstrip() }}|  § `a|a | a|`",
        "{{ 'xxaxx'.strip('x') }}{{ 'xxb'.lstrip('x') }}{{ 'cxx'.rstrip('x') }} § abc",
        "{{ 'a</t>b</t>c'.split('</t>')[-1] }}{{ 'a</t>b'.split('</t>')|first }} § ca",
        "{{ 'a,b,c'.split(',', 1)[1] }}{{ ' a  b '.split()|length }}       § b,c2",
        "{{ 'aB'.lower() }}{{ 'aB'.upper() }}{{ 'a b'.title() }}{{ 'aB'.capitalize() }} § abABA BAb",
        "{{ 'aXb'.replace('X', '-') }}{{ ','.join(['a', 'b']) }}           § a-ba,b",
        "{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b', 'z') }}               § 1z",
        "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}      § a1",
        "{% for k, v in {'a': 1}|items %}{{ k }}{{ v }}{% endfor %}        § a1",
        "{{ {'a': [1, 'é'], 'b': none, 'c': true} | tojson }}              § `{\"a\": [1, \"é\"], \"b\": null, \"c\": true}`",
        "{{ [] | tojson }}{{ {} | tojson }}                                § []{}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} § 1",
        "{{ messages | map(attribute='role') | join(',') }}                § user,assistant",
        "{%- macro f(x) -%}[{{ x }}]{%- endmacro -%}{{ f('q') }}           § [q]",
        "{% generation %}g{% endgeneration %}                              § g",
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.role }}{% endfor %} § user",
        "{{ strftime_now('%d %b %Y %H:%M 100%%') }}                        § 09 Mar 2025 04:05 100%",
        "{{ '{{x}}' }}{{ '%}' }}                                           § {{x}}%}",
      })
  void rendersAsJinja2(String source, String expected) {
    assertThat(render(source, Map.of())).isEqualTo(expected);
  }

  @Test
  void trimsBlocksAsTransformersDoes() {
    assertThat(render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", Map.of()))
        .isEqualTo("a\n  b\nc");
    assertThat(render("a \n{%- if true -%}\n b{% endif %}", Map.of())).isEqualTo("ab");
  }

  @Test
  void indentsJson() {
    assertThat(render("{{ {'a': [1], 'b': {} } | tojson(indent=2) }}", Map.of()))
        .isEqualTo("{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
  }

  @Test
  void rendersATurnBasedTemplate() {
    String source =
        """
        {%- if messages[0].role == 'system' %}
            {%- set start = messages[0].content %}
            {%- set rest = messages[1:] %}
        {%- else %}
            {%- set start = 'default' %}
            {%- set rest = messages %}
        {%- endif %}
        {{- '[' + start | trim + ']\\n' }}
        {%- for m in rest %}
            {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
                {{- raise_exception('turns must alternate') }}
            {%- endif %}
            {{- '<' ~ m.role ~ '>' ~ m.content | trim ~ '\\n' }}
        {%- endfor %}
        {%- if add_generation_prompt and not (thinking is defined and thinking is false) %}
            {{- '<assistant>' }}
        {%- endif %}
        """;

    assertThat(render(source, Map.of()))
        .isEqualTo("[default]\n<user>hi {{ 7*7 }}\n<assistant>yo\n<assistant>");
    assertThat(render(source, Map.of("thinking", false))).endsWith("yo\n");
    assertThatThrownBy(
            () -> new ChatTemplate(source, "", "").render(List.of(MESSAGES.get(1)), true, Map.of()))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.INVALID_REQUEST))
        .hasMessage("The chat template refuses this: turns must alternate");
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '§',
      quoteCharacter = '`',
      value = {
        "{% nope %}",
        "{{ 'a'|nope }}",
        "{{ nope() }}",
        "{{ 'a'.zfill(3) }}",
        "{% if %}",
        "{{ 'a' }",
        "{% for m in messages %}",
        "{% for m in messages %}{{ loop.previtem }}{% endfor %}",
        "{% for m in messages %}{% else %}{% endfor %}",
        "{% if 'a' is nope %}{% endif %}",
        "{% set x = [1]|nope %}",
        "{{ 'a'.getClass() }}",
        "{{ messages.getClass().forName('java.lang.Runtime') }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% from 'logback.xml' import x %}",
        "{% extends 'logback.xml' %}",
      })
  void failsRatherThanSkipWhatItDoesNotKnowOrAllow(String source) {
    assertThatThrownBy(() -> render(source, Map.of()))
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> assertThat(e.code()).isEqualTo(ErrorCode.INVALID_REQUEST));
  }

  @Test
  void boundsItsOutput() {
    String endless =
        "{% for i in range(1000) %}{% for j in range(1000) %}{% for k in range(1000) %}"
            + "x".repeat(100)
            + "{% endfor %}{% endfor %}{% endfor %}";

    assertThatThrownBy(() -> render(endless, Map.of())).isInstanceOf(InfiniLoraException.class);
  }
}

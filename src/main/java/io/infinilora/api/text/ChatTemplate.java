package io.infinilora.api.text;

import com.hubspot.jinjava.Jinjava;
import com.hubspot.jinjava.JinjavaConfig;
import com.hubspot.jinjava.LegacyOverrides;
import com.hubspot.jinjava.interpret.Context;
import com.hubspot.jinjava.interpret.Context.Library;
import com.hubspot.jinjava.interpret.RenderResult;
import com.hubspot.jinjava.interpret.TemplateError;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.time.Clock;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * A checkpoint's chat template: Jinja source that turns messages into the text of a prompt.
 * Whitespace is treated as Hugging Face's transformers does it (trim_blocks and lstrip_blocks).
 *
 * <p>Rendered by jinjava, the most complete Jinja for the JVM that was found. What chat templates
 * use and jinjava lacks or does differently is added: Python's string methods ({@link
 * PythonStrings}), filters in {@code for} ({@link FilteredForTag}), {@code [::-1]}, Python's JSON
 * format ({@link ToJsonFilter}), {@code generation} blocks, {@code raise_exception} and {@code
 * strftime_now}. Known differences that remain: booleans print as {@code true} and {@code false},
 * {@code and} yields a boolean, and a variable that is none counts as undefined. What jinjava does
 * not know fails the request; {@link TemplateCheck} finds what it would skip in silence.
 *
 * <p>Templates come with models, so they are not trusted: they cannot read files, load other
 * templates or classes, or produce more than {@link #MAX_OUTPUT_CHARS}. Safe for any thread.
 */
public final class ChatTemplate {
  /** Longest rendered prompt, in characters. */
  static final int MAX_OUTPUT_CHARS = 16 << 20;

  private static final int MAX_ITEMS = 100_000;

  private final Jinjava jinjava;
  private final String source;
  private final Optional<String> problem;
  private final String bosToken;
  private final String eosToken;

  /**
   * A template.
   *
   * @param source Jinja
   * @param bosToken value of {@code bos_token}
   * @param eosToken value of {@code eos_token}
   */
  public ChatTemplate(String source, String bosToken, String eosToken) {
    this(source, bosToken, eosToken, Clock.system(ZoneId.systemDefault()));
  }

  ChatTemplate(String source, String bosToken, String eosToken, Clock clock) {
    this.source = TemplateRewrite.rewrite(source);
    this.bosToken = bosToken;
    this.eosToken = eosToken;
    this.jinjava = new Jinjava(config());
    jinjava.setResourceLocator(
        (name, encoding, interpreter) -> {
          throw new IOException("templates cannot load '" + name + "'");
        });
    jinjava.registerTag(new FilteredForTag());
    jinjava.registerTag(new GenerationTag());
    jinjava.registerFilter(new ToJsonFilter());
    jinjava.registerFilter(new ItemsFilter());
    Context globals = jinjava.getGlobalContext();
    problem =
        TemplateCheck.problem(
            this.source,
            filter -> globals.getFilter(filter) != null,
            test -> globals.getExpTest(test) != null);
    TemplateFunctions.register(globals);
    jinjava
        .getGlobalContext()
        .put(TemplateFunctions.NOW, (TemplateFunctions.Now) () -> LocalDateTime.now(clock));
  }

  private static JinjavaConfig config() {
    return JinjavaConfig.newBuilder()
        .withTrimBlocks(true)
        .withLstripBlocks(true)
        .withNestedInterpretationEnabled(false)
        .withReadOnlyResolver(true)
        .withElResolver(new PythonStrings())
        .withMaxOutputSize(MAX_OUTPUT_CHARS)
        .withMaxStringLength(MAX_OUTPUT_CHARS)
        .withMaxListSize(MAX_ITEMS)
        .withMaxMapSize(MAX_ITEMS)
        .withDisabled(
            Map.of(
                Library.TAG, Set.of("include", "import", "from", "extends"),
                Library.FILTER, Set.of("render", "log")))
        .withLegacyOverrides(
            LegacyOverrides.newBuilder()
                .withEvaluateMapKeys(true)
                .withIterateOverMapKeys(true)
                .withUsePyishObjectMapper(true)
                .withUseNaturalOperatorPrecedence(true)
                .withParseWhitespaceControlStrictly(true)
                .withAllowAdjacentTextNodes(true)
                .withUseTrimmingForNotesAndExpressions(true)
                .withKeepNullableLoopValues(true)
                .build())
        .build();
  }

  /** Whether an argument of {@link #render} may be set so: those that it sets itself may not. */
  public static boolean takes(String argument, Object value) {
    return switch (argument) {
      case "messages", "bos_token", "eos_token" -> false;
      case "add_generation_prompt" -> value.equals(true);
      default -> true;
    };
  }

  /**
   * The text of a prompt.
   *
   * @param messages each with {@code role} and {@code content}
   * @param addGenerationPrompt whether the text ends with the opening of the assistant's answer
   * @param arguments further variables of the template
   * @throws InfiniLoraException {@code INVALID_REQUEST} if the template refuses the messages or
   *     uses what is not supported
   */
  public String render(
      List<Map<String, Object>> messages,
      boolean addGenerationPrompt,
      Map<String, Object> arguments) {
    Map<String, Object> variables = new HashMap<>(arguments);
    variables.put("messages", messages);
    variables.put("add_generation_prompt", addGenerationPrompt);
    variables.put("bos_token", bosToken);
    variables.put("eos_token", eosToken);
    problem.ifPresent(
        p -> {
          throw failure(null, p);
        });
    RenderResult result;
    try {
      result = jinjava.renderForResult(source, variables);
    } catch (RuntimeException e) {
      throw failure(e, e.getMessage());
    }
    for (TemplateError error : result.getErrors()) {
      throw failure(error.getException(), error.getMessage());
    }
    return result.getOutput();
  }

  private static InfiniLoraException failure(Exception cause, String message) {
    for (Throwable t = cause; t != null; t = t.getCause()) {
      if (t instanceof TemplateFunctions.RaisedException) {
        return new InfiniLoraException(
            ErrorCode.INVALID_REQUEST, "The chat template refuses this: " + t.getMessage(), cause);
      }
    }
    return new InfiniLoraException(
        ErrorCode.INVALID_REQUEST, "The chat template failed: " + message, cause);
  }
}

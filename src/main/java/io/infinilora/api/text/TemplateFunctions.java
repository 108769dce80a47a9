package io.infinilora.api.text;

import com.hubspot.jinjava.interpret.Context;
import com.hubspot.jinjava.interpret.JinjavaInterpreter;
import com.hubspot.jinjava.lib.fn.ELFunctionDefinition;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Locale;

/** The functions that transformers offers to chat templates. */
public final class TemplateFunctions {
  /** Name of the variable that holds the clock. */
  static final String NOW = "__now";

  private TemplateFunctions() {}

  /** The time that templates see. */
  interface Now {
    /** Local date and time. */
    LocalDateTime get();
  }

  /** What {@code raise_exception} throws. */
  static final class RaisedException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    RaisedException(String message) {
      super(message);
    }
  }

  static void register(Context context) {
    context.registerFunction(
        new ELFunctionDefinition(
            "", "raise_exception", TemplateFunctions.class, "raiseException", String.class));
    context.registerFunction(
        new ELFunctionDefinition(
            "", "strftime_now", TemplateFunctions.class, "strftimeNow", String.class));
  }

  /** {@code raise_exception(message)}: the template refuses its input. */
  public static String raiseException(String message) {
    throw new RaisedException(message);
  }

  /** {@code strftime_now(format)}: the local time in C's format language. */
  public static String strftimeNow(String format) {
    Now now = (Now) JinjavaInterpreter.getCurrent().getContext().get(NOW);
    LocalDateTime time = now.get();
    StringBuilder out = new StringBuilder();
    boolean escaped = false;
    for (int i = 0; i < format.length(); i++) {
      char c = format.charAt(i);
      if (escaped) {
        out.append(field(c, time));
      } else if (c != '%') {
        out.append(c);
      }
      escaped = !escaped && c == '%';
    }
    return out.toString();
  }

  private static String field(char letter, LocalDateTime time) {
    String pattern =
        switch (letter) {
          case 'Y' -> "yyyy";
          case 'y' -> "yy";
          case 'm' -> "MM";
          case 'd' -> "dd";
          case 'B' -> "MMMM";
          case 'b' -> "MMM";
          case 'A' -> "EEEE";
          case 'a' -> "EEE";
          case 'H' -> "HH";
          case 'I' -> "hh";
          case 'M' -> "mm";
          case 'S' -> "ss";
          case 'p' -> "a";
          case 'j' -> "DDD";
          case '%' -> "'%'";
          default -> throw new IllegalArgumentException("strftime_now does not know %" + letter);
        };
    return DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH).format(time);
  }
}

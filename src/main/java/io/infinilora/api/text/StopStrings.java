package io.infinilora.api.text;

import java.util.List;

/**
 * Finds the first of several stop strings in a text that arrives in pieces, and cuts the text
 * before it. The result does not depend on where the pieces end: the stop string that is complete
 * first wins, the longest of those that are complete at the same character. Text is held back only
 * while it could still become part of a stop string.
 *
 * <p>Each stop string is matched by the automaton of Knuth, Morris and Pratt (SIAM J. Comput. 6(2),
 * 1977), so a character costs amortised constant time per stop string. Not thread-safe.
 */
public final class StopStrings {
  private final String[] stops;
  private final int[][] borders;
  private final int[] matched;
  private final StringBuilder held = new StringBuilder();
  private boolean stopped;

  /** A matcher at the beginning of a text. Empty stop strings are not allowed; no strings are. */
  public StopStrings(List<String> stops) {
    this.stops = stops.toArray(String[]::new);
    this.borders = new int[this.stops.length][];
    this.matched = new int[this.stops.length];
    for (int s = 0; s < this.stops.length; s++) {
      if (this.stops[s].isEmpty()) {
        throw new IllegalArgumentException("empty stop string");
      }
      borders[s] = borders(this.stops[s]);
    }
  }

  /** Adds text; returns what is now certain to precede any stop string. Nothing once stopped. */
  public String append(String text) {
    if (stopped || stops.length == 0) {
      return stopped ? "" : text;
    }
    held.append(text);
    int from = held.length() - text.length();
    for (int i = from; i < held.length(); i++) {
      int longest = advance(held.charAt(i));
      if (longest > 0) {
        stopped = true;
        return held.substring(0, i + 1 - longest);
      }
    }
    int keep = 0;
    for (int m : matched) {
      keep = Math.max(keep, m);
    }
    String released = held.substring(0, held.length() - keep);
    held.delete(0, released.length());
    return released;
  }

  /** The end of the text: what was held back and did not become a stop string. */
  public String finish() {
    String rest = stopped ? "" : held.toString();
    held.setLength(0);
    return rest;
  }

  /** Whether a stop string was found. */
  public boolean stopped() {
    return stopped;
  }

  /** Feeds one character to all automata; the length of the longest stop it completes, or 0. */
  private int advance(char c) {
    int longest = 0;
    for (int s = 0; s < stops.length; s++) {
      String stop = stops[s];
      int m = matched[s];
      while (m > 0 && stop.charAt(m) != c) {
        m = borders[s][m - 1];
      }
      if (stop.charAt(m) == c) {
        m++;
      }
      matched[s] = m;
      if (m == stop.length()) {
        longest = Math.max(longest, m);
      }
    }
    return longest;
  }

  /** For each prefix, the length of its longest proper border. */
  private static int[] borders(String s) {
    int[] b = new int[s.length()];
    int k = 0;
    for (int i = 1; i < s.length(); i++) {
      while (k > 0 && s.charAt(k) != s.charAt(i)) {
        k = b[k - 1];
      }
      if (s.charAt(k) == s.charAt(i)) {
        k++;
      }
      b[i] = k;
    }
    return b;
  }
}

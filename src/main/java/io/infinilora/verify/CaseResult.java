package io.infinilora.verify;

/**
 * Outcome of one row of the report.
 *
 * @param fixture model folder
 * @param name case, {@code mixed} or {@code load}
 * @param status pass, fail or skip
 * @param worstError largest absolute difference of a logit; NaN where no logits were compared
 * @param detail what went wrong, or why it was skipped; empty for a pass
 */
public record CaseResult(
    String fixture, String name, Status status, double worstError, String detail) {

  /** Outcomes. */
  public enum Status {
    PASS,
    FAIL,
    SKIP
  }

  static CaseResult pass(String fixture, String name, double worst) {
    return new CaseResult(fixture, name, Status.PASS, worst, "");
  }

  static CaseResult fail(String fixture, String name, double worst, String detail) {
    return new CaseResult(fixture, name, Status.FAIL, worst, detail);
  }

  static CaseResult skip(String fixture, String reason) {
    return new CaseResult(fixture, "all", Status.SKIP, Double.NaN, reason);
  }
}

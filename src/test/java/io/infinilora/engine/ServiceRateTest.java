package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

/** On a clock that the test turns. */
class ServiceRateTest {
  private long now = -5_000_000_000L; // The clock's origin is arbitrary, even negative.
  private final ServiceRate rate = new ServiceRate(now);

  private void pass(double seconds) {
    now += (long) (seconds * 1e9);
  }

  /** One request is always there; another one is served each time the seconds have passed. */
  private void serve(int requests, double secondsEach) {
    rate.joined(now);
    for (int i = 0; i < requests; i++) {
      pass(secondsEach);
      rate.left(true, now);
      rate.joined(now);
    }
  }

  private long secondsFor(int requests) {
    return rate.timeFor(requests, now).toSeconds();
  }

  @Test
  void isTheTimeThatTheQueueTakesAtTheRecentRate() {
    serve(200, 0.5);

    assertThat(secondsFor(10)).isBetween(5L, 6L);
    assertThat(secondsFor(50)).isBetween(25L, 26L);
  }

  @Test
  void staysBetweenOneSecondAndAMinute() {
    serve(100, 0.01);
    assertThat(secondsFor(3)).isEqualTo(1);
    assertThat(secondsFor(0)).isEqualTo(1);

    assertThat(secondsFor(1_000_000)).isEqualTo(60);
  }

  @Test
  void isOneSecondBeforeAnythingHappened() {
    assertThat(secondsFor(100)).isEqualTo(1);
    pass(3600);
    assertThat(secondsFor(100)).isEqualTo(1);
  }

  @Test
  void growsWhileNothingIsServed() {
    rate.joined(now);
    pass(2);
    long soon = secondsFor(4);
    pass(5);

    assertThat(soon).isEqualTo(8);
    assertThat(secondsFor(4)).isGreaterThan(20);
  }

  @Test
  void idleTimeDoesNotMakeServiceLookSlow() {
    serve(200, 0.5);
    rate.left(false, now);
    pass(20);

    assertThat(secondsFor(10)).isBetween(5L, 6L);
  }

  @Test
  void followsAChangeOfPace() {
    serve(600, 0.1);
    assertThat(secondsFor(20)).isBetween(2L, 3L);
    rate.left(false, now);

    serve(150, 2);

    assertThat(secondsFor(20)).isBetween(39L, 41L);
  }

  @Test
  void whoLeavesTheQueueUnservedIsNoService() {
    serve(200, 0.5);
    for (int i = 0; i < 1000; i++) {
      rate.joined(now);
      rate.left(false, now);
    }

    assertThat(secondsFor(10)).isBetween(5L, 6L);
  }
}

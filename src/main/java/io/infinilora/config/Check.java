package io.infinilora.config;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;

/** Range checks whose messages name the key and the value. */
final class Check {
  private Check() {}

  static void atLeast(String key, int min, int value) {
    if (value < min) {
      throw error("%s must be at least %d, not %d".formatted(key, min, value));
    }
  }

  static void atMost(String key, int max, int value) {
    if (value > max) {
      throw error("%s must be at most %d, not %d".formatted(key, max, value));
    }
  }

  static void between(String key, int min, int max, int value) {
    if (value < min || value > max) {
      throw error("%s must be between %d and %d, not %d".formatted(key, min, max, value));
    }
  }

  static void positive(String key, ByteSize value) {
    if (value.bytes() == 0) {
      throw error("%s must be greater than 0".formatted(key));
    }
  }

  /** A step must have room for one row of every running sequence. */
  static void tokenBudget(String key, int maxBatchedTokens, String otherKey, int maxRunning) {
    if (maxBatchedTokens < maxRunning) {
      throw error(
          "%s must be at least %s (%d), so that every running sequence can decode in every step, not %d"
              .formatted(key, otherKey, maxRunning, maxBatchedTokens));
    }
  }

  static InfiniLoraException error(String message) {
    return new InfiniLoraException(ErrorCode.BAD_CONFIG, message);
  }
}

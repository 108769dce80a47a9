package io.infinilora.api;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;

/** A field of a request body has the wrong type or an impossible value. */
final class InvalidFieldException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  private final String field;

  /** An {@code INVALID_REQUEST} whose message starts with the field's name. */
  InvalidFieldException(String field, String problem) {
    super(ErrorCode.INVALID_REQUEST, field + " " + problem);
    this.field = field;
  }

  /** The field as the API spells it. */
  String field() {
    return field;
  }
}

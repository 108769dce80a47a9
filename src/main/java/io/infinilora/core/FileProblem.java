package io.infinilora.core;

import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.AccessDeniedException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;

/** What is wrong with a file, in words for the person who named it. */
public final class FileProblem {
  private FileProblem() {}

  /** The reason alone: whoever reports it names the file. */
  public static String of(IOException failure) {
    return switch (failure) {
      case NoSuchFileException e -> "there is no such file or directory";
      case NotDirectoryException e -> "it is not a directory";
      case AccessDeniedException e -> "permission denied";
      case CharacterCodingException e -> "it is not UTF-8 text";
      default -> failure.getMessage() == null ? failure.toString() : failure.getMessage();
    };
  }
}

package io.infinilora.core;

import java.util.Objects;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A repository of models on the Hugging Face hub, written {@code hf:REPO[@REVISION][:FILE]}. Every
 * part is checked here, so that none can point out of a cache directory.
 *
 * @param repo {@code name} or {@code organisation/name}
 * @param revision branch, tag or commit
 * @param file the one file that is meant, such as one of several GGUF files
 */
public record HubReference(String repo, String revision, Optional<String> file)
    implements WeightSource {

  /** What tells a reference from a path. */
  public static final String PREFIX = "hf:";

  /** The hub's default branch. */
  public static final String DEFAULT_REVISION = "main";

  private static final Pattern TEXT =
      Pattern.compile("(?<repo>[^@:]*)(@(?<revision>[^:]*))?(:(?<file>.*))?", Pattern.DOTALL);
  private static final Pattern COMMIT = Pattern.compile("[0-9a-f]{40}");
  private static final int MAX_NAME = 96;
  private static final Pattern NAME = Pattern.compile("[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?");
  private static final int MAX_REVISION = 256;
  private static final Pattern REVISION = Pattern.compile("[A-Za-z0-9._+/-]+");
  private static final int MAX_FILE = 1024;

  /**
   * Rejects what the hub does not allow.
   *
   * @throws IllegalArgumentException naming the part at fault
   */
  public HubReference {
    Objects.requireNonNull(file);
    if (!isRepo(repo)) {
      throw new IllegalArgumentException(
          "\"%s\" is no repository: expected NAME or ORGANISATION/NAME".formatted(repo));
    }
    if (!isRevision(revision)) {
      throw new IllegalArgumentException(
          "\"%s\" is no revision: expected a branch, a tag or a commit".formatted(revision));
    }
    if (file.isPresent() && !isFile(file.get())) {
      throw new IllegalArgumentException("\"%s\" is no file of a repository".formatted(file.get()));
    }
  }

  /**
   * Reads {@code REPO[@REVISION][:FILE]}, without the prefix.
   *
   * @throws IllegalArgumentException naming the part at fault
   */
  public static HubReference parse(String text) {
    Matcher matcher = TEXT.matcher(text);
    if (!matcher.matches()) {
      throw new IllegalArgumentException("\"%s\" is not REPO[@REVISION][:FILE]".formatted(text));
    }
    return new HubReference(
        matcher.group("repo"),
        Optional.ofNullable(matcher.group("revision")).orElse(DEFAULT_REVISION),
        Optional.ofNullable(matcher.group("file")));
  }

  /** Whether the revision is a commit, which never changes. */
  public boolean isPinned() {
    return isCommit(revision);
  }

  /** Whether the text is a full commit id. */
  public static boolean isCommit(String text) {
    return COMMIT.matcher(text).matches();
  }

  /**
   * Whether a name is that of a file in a repository: relative, with slashes, and staying inside.
   */
  public static boolean isFile(String name) {
    return name.length() <= MAX_FILE
        && name.indexOf('\\') < 0
        && name.chars().noneMatch(Character::isISOControl)
        && hasProperSegments(name);
  }

  private static boolean isRepo(String repo) {
    String[] names = repo.split("/", -1);
    for (String name : names) {
      if (!isName(name)) {
        return false;
      }
    }
    return names.length <= 2 && repo.length() <= MAX_NAME && !repo.endsWith(".git");
  }

  /** "--" separates organisation and name in a cache directory, so that no name may have it. */
  private static boolean isName(String name) {
    return NAME.matcher(name).matches() && !name.contains("--") && !name.contains("..");
  }

  private static boolean isRevision(String revision) {
    return revision.length() <= MAX_REVISION
        && REVISION.matcher(revision).matches()
        && !revision.startsWith("-")
        && hasProperSegments(revision);
  }

  private static boolean hasProperSegments(String path) {
    for (String segment : path.split("/", -1)) {
      if (segment.isEmpty() || segment.equals(".") || segment.equals("..")) {
        return false;
      }
    }
    return true;
  }

  /** The reference as it is written, the default revision left out. */
  @Override
  public String toString() {
    return PREFIX
        + repo
        + (revision.equals(DEFAULT_REVISION) ? "" : "@" + revision)
        + file.map(name -> ":" + name).orElse("");
  }
}

package io.infinilora.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class HubReferenceTest {

  @ParameterizedTest
  @CsvSource({
    "hf:gpt2,gpt2,main,",
    "hf:acme/tiny-1.5B_x,acme/tiny-1.5B_x,main,",
    "hf:acme/tiny@v1.0,acme/tiny,v1.0,",
    "hf:acme/tiny@refs/pr/3,acme/tiny,refs/pr/3,",
    "hf:acme/tiny:tiny.Q4_K_M.gguf,acme/tiny,main,tiny.Q4_K_M.gguf",
    "hf:acme/tiny@v2:sub dir/tiny@2.gguf,acme/tiny,v2,sub dir/tiny@2.gguf",
  })
  void readsWhatItWrites(String text, String repo, String revision, String file) {
    HubReference expected = new HubReference(repo, revision, Optional.ofNullable(file));
    assertThat(WeightSource.parse(text)).isEqualTo(expected).hasToString(text);
  }

  @ParameterizedTest
  @ValueSource(strings = {"some/model.gguf", "/hf", "C:hf", "HF:acme/tiny", "./hf:x"})
  void everythingElseIsAPath(String text) {
    assertThat(WeightSource.parse(text)).isEqualTo(new WeightSource.Local(Path.of(text)));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "a/b/c",
        "/b",
        "a/",
        "../b",
        "a/..",
        "a/.b",
        "a/b.",
        "-a/b",
        "a--b/c",
        "a..b/c",
        "a/b.git",
        "a b",
        "a\\b",
        "a/b\n",
        "a/b@",
        "a/b@../../x",
        "a/b@/x",
        "a/b@x/",
        "a/b@-x",
        "a/b@x y",
        "a/b@x@y",
        "a/b:",
        "a/b:/etc/passwd",
        "a/b:../x.gguf",
        "a/b:x/../../y.gguf",
        "a/b:x\\y.gguf",
        "a/b:x\u0000.gguf",
      })
  void whatCouldPointElsewhereIsRefused(String text) {
    assertThatThrownBy(() -> WeightSource.parse("hf:" + text))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void longNamesAreRefused() {
    assertThat(HubReference.parse("a/" + "b".repeat(94)).repo()).hasSize(96);
    assertThatThrownBy(() -> HubReference.parse("a/" + "b".repeat(95)))
        .hasMessageEndingWith("is no repository: expected NAME or ORGANISATION/NAME");
  }

  @Test
  void onlyAFullCommitIsPinned() {
    assertThat(HubReference.parse("a/b@" + "0a".repeat(20)).isPinned()).isTrue();
    assertThat(HubReference.parse("a/b@" + "0a".repeat(19)).isPinned()).isFalse();
  }
}

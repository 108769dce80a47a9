package io.infinilora.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ByteSizeTest {

  @ParameterizedTest
  @CsvSource({
    "0B,0",
    "1B,1",
    "1023B,1023",
    "1KiB,1024",
    "1536KiB,1572864",
    "3GiB,3221225472",
    "2048TiB,2251799813685248"
  })
  void readsWhatItWrites(String text, long bytes) {
    assertThat(ByteSize.parse(text)).isEqualTo(new ByteSize(bytes));
    assertThat(new ByteSize(bytes)).hasToString(text);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "1", "MiB", "-1B", "1.5GiB", "1MB", "1mib", "8388608TiB"})
  void refusesOtherForms(String text) {
    assertThatThrownBy(() -> ByteSize.parse(text)).isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void aSpaceBeforeTheUnitIsFine() {
    assertThat(ByteSize.parse("4 MiB")).isEqualTo(ByteSize.mebibytes(4));
  }
}

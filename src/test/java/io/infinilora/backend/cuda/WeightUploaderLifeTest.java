package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

/** What an uploader does without a device. */
class WeightUploaderLifeTest {

  /** Else it would make threads and page-locked memory that nobody gives back. */
  @Test
  void nothingIsMadeAgainOnceItIsClosed() {
    WeightUploader uploader = new WeightUploader(null);
    uploader.close();
    uploader.close();
    assertThatThrownBy(uploader::begin)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("closed");
  }
}

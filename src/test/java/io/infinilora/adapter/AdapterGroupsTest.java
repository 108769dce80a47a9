package io.infinilora.adapter;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class AdapterGroupsTest {

  @Test
  void groupsRowsBySlotAndKeepsTheirOrder() {
    AdapterGroups groups = AdapterGroups.of(new int[] {7, -1, 3, 7, 3, -1, 7});

    assertThat(groups.slots()).containsExactly(3, 7);
    assertThat(groups.groups().starts()).containsExactly(0, 2, 5);
    assertThat(groups.groups().rows()).containsExactly(2, 4, 0, 3, 6);
    assertThat(groups.rows()).isEqualTo(5);
    assertThat(groups.isEmpty()).isFalse();
  }

  @Test
  void rowsWithoutAnAdapterMakeNoGroup() {
    AdapterGroups groups = AdapterGroups.of(new int[] {-1, -1});

    assertThat(groups.isEmpty()).isTrue();
    assertThat(groups.rows()).isZero();
    assertThat(groups.groups().groups()).isZero();
  }

  @Test
  void distinctAdaptersMakeOneGroupEach() {
    AdapterGroups groups = AdapterGroups.of(new int[] {2, 0, 1});

    assertThat(groups.slots()).containsExactly(0, 1, 2);
    assertThat(groups.groups().starts()).containsExactly(0, 1, 2, 3);
    assertThat(groups.groups().rows()).containsExactly(1, 2, 0);
  }
}

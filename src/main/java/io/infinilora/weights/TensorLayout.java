package io.infinilora.weights;

import java.util.EnumMap;
import java.util.Map;

/** Where the files of one architecture and format keep the parameters. */
final class TensorLayout {

  private final Map<Param, TensorPlace> places;

  private TensorLayout(Map<Param, TensorPlace> places) {
    this.places = places;
  }

  /** Every parameter in a tensor of its own; see {@link TensorPlace#pattern}. */
  static TensorLayout named(Map<Param, String> patterns) {
    Map<Param, TensorPlace> places = new EnumMap<>(Param.class);
    patterns.forEach((param, pattern) -> places.put(param, TensorPlace.of(pattern)));
    return new TensorLayout(places);
  }

  /** This layout with some parameters elsewhere. */
  TensorLayout with(Map<Param, TensorPlace> others) {
    Map<Param, TensorPlace> merged = new EnumMap<>(places);
    merged.putAll(others);
    return new TensorLayout(merged);
  }

  /** This layout with some parameters in tensors of their own. */
  TensorLayout withNames(Map<Param, String> patterns) {
    return with(named(patterns).places);
  }

  /** Where a parameter lies. */
  TensorPlace place(Param param) {
    TensorPlace place = places.get(param);
    if (place == null) {
      throw new IllegalArgumentException("no place for " + param);
    }
    return place;
  }

  /** The tensor of a parameter in the first layer, for the first expert. */
  String firstName(Param param) {
    return place(param).name(0, 0);
  }
}

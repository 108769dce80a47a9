// Which rows go to which experts: what route.cu writes and the expert products read.
//
//   experts [rows * topK] int32   choice j of row r at r * topK + j, best first; -1 for padded rows
//   weights [rows * topK] float32
//   starts  [E + 1] int32         the plan: rows by expert; places starts[e] .. starts[e + 1] of `sorted` are expert e's
//   sorted  [rows * topK] int32   routed rows (r * topK + j) by expert, ascending within one
//   active  [E + 1] int32         active[0] experts have rows; active[1 ..] are they, ascending

#pragma once

constexpr int MAX_EXPERTS = 256;
constexpr int MAX_CHOICES = 16;

package io.infinilora.backend.cpu;

import java.util.List;

/**
 * Matrix B of a low-rank pair, {@code [out, rank]}, without a bias.
 *
 * @param pieces its panels, cut into matrices one above the other; all but the last are whole
 *     panels
 */
record LoraPanels(int out, List<PackedMatrix> pieces) {}

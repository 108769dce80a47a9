package io.infinilora.backend.cuda;

/**
 * A step's rows on the device, int32 throughout. Addresses are of device memory.
 *
 * @param rows rows to launch, padded ones included
 * @param sequences sequences, padded ones included
 * @param rowCount one number: rows that are not padding
 * @param tokens token of each row
 * @param positions position of each row; -1 for padding
 * @param sequence sequence of each row
 * @param rowStart first row of each sequence, plus the total
 * @param tables KV blocks, {@code [sequences][tableStride]}
 * @param tableStride blocks of a row of the table
 * @param logitRows rows whose logits are wanted; -1 for padding
 */
record DeviceBatch(
    int rows,
    int sequences,
    long rowCount,
    long tokens,
    long positions,
    long sequence,
    long rowStart,
    long tables,
    int tableStride,
    long logitRows) {}

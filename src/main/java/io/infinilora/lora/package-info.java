/**
 * The LoRA Server: owns adapters and computes all low-rank products. Base models reach it through
 * the event bus only.
 */
package io.infinilora.lora;

/** Model and adapter files: GGUF, safetensors, Hugging Face configurations, PEFT adapters. */
package io.infinilora.weights;

/**
 * Chat templates (Jinja, as Hugging Face tokenizers carry them) and tokenizers. Needs no libtorch.
 *
 * <p>Templates have an interpreter of their own here, because no library serves. Tried with Qwen3's template in 120 renderings: Pebble
 * 3.2.4 does not parse it; {@code @huggingface/jinja} 0.5.11 differs from jinja2 in 18, and under GraalJS 23.1.8 costs 86 MB of jars and
 * 4.9 seconds to the first rendering.
 */
package org.teamtr.chat;

/**
 * Chat templates (Jinja, as Hugging Face tokenizers carry them) and tokenizers. Needs no libtorch. Templates have an interpreter of
 * their own here; the README beside these files says why no library serves.
 */
package org.teamtr.chat;

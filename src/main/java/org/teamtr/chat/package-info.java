/** Chat templates (Jinja, as Hugging Face tokenizers carry them) and tokenizers. Needs no libtorch. */
package org.teamtr.chat;

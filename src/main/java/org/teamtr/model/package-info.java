/** Model folders in the Hugging Face layout: {@code config.json} and safetensors files. Needs no libtorch. */
package org.teamtr.model;

/**
 * How the kernels' native library is found, loaded and called. Not part of the API: it may change in any version. Memory and
 * argument checks are package-private parts of {@code org.teamtr.kernels}, since they are parts of its views.
 */
package org.teamtr.kernels.internal;

package example

import kotlin.math.exp
import kotlin.system.exitProcess
import org.teamtr.kernels.Advantages
import org.teamtr.kernels.Floats
import org.teamtr.kernels.Indices
import org.teamtr.kernels.Logits
import org.teamtr.kernels.PolicyLoss
import org.teamtr.kernels.Sampling
import org.teamtr.kernels.SamplingConfig
import org.teamtr.kernels.SurrogateConfig
import org.teamtr.kernels.Temperature
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

private const val VOCAB = 16L
private const val GROUP = 64L
private const val WANTED = 3L

private fun direct(floats: Long): FloatBuffer =
    ByteBuffer.allocateDirect(floats.toInt() * Float.SIZE_BYTES).order(ByteOrder.nativeOrder()).asFloatBuffer()

/** One policy for a single token: sample a group of messages of one token, reward one of the tokens, ascend the clipped surrogate. */
fun main() {
    val policy = FloatArray(VOCAB.toInt())
    val logits = direct(GROUP * VOCAB)
    val view = Logits.of(logits, GROUP, VOCAB)
    val tokens = Indices.allocateInts(GROUP)
    val logProbs = Floats.allocate(GROUP)
    val advantages = Floats.allocate(GROUP)
    val messages = Indices.ofInts(*IntArray(GROUP.toInt() + 1) { it })
    PolicyLoss(GROUP, false).use { loss ->
        for (step in 0 until 40) {
            repeat(GROUP.toInt()) { logits.put(it * policy.size, policy) }
            Sampling.sample(view, Temperature.ONE, SamplingConfig.ALL, 7, step, null, tokens, logProbs, null)
            Floats.ofFloats(*FloatArray(GROUP.toInt()) { if (tokens[it.toLong()] == WANTED) 1f else 0f }).use { returns ->
                Advantages.groupNormalised(returns, GROUP, 1e-8, Double.POSITIVE_INFINITY, true, advantages, null)
            }
            loss.forwardBackward(SurrogateConfig.PAPER, view, null, tokens, Temperature.ONE, logProbs, advantages, messages,
                null, null, view) // the gradient, in place of the logits
            for (i in 0 until logits.capacity()) {
                policy[i % policy.size] -= logits[i]
            }
        }
    }
    listOf(tokens, logProbs, advantages, messages).forEach(AutoCloseable::close)
    val p = exp(policy[WANTED.toInt()]) / policy.sumOf { exp(it).toDouble() }
    println("probability of the rewarded token: 0.06 before, ${if (p > 0.9) "more than 0.9" else p.toString()} after 40 steps")
    exitProcess(if (p > 0.9) 0 else 1)
}

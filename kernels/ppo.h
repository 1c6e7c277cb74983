// The clipped objective of PPO and MAPPO: steps of one seed after another on minibatches of a rollout. The
// equations are those of algorithms/ppo.py and algorithms/mappo.py, which a reader reads and a GPU runs.
#pragma once
#include "network.h"
#include "optimiser.h"

struct Objective {  // the same in __init__.py
  Adam adam;
  float clip, value_coef, entropy_coef, max_grad_norm;
  float huber_delta;       // the value loss is linear in larger errors; 0: never
  int32_t clip_value;      // take the larger value loss of V(s) and of V(s) clipped around its old value
  int32_t standardise;     // advantages, in each minibatch
  int32_t discrete;        // actions: int64 (S, n), else float32 (S, n, A)
  int32_t separate_norms;  // limit the norms of the gradients of policy and value network one by one
};

struct Columns {  // the same in __init__.py; each is (S, n, ...)
  const float *policy_obs, *value_obs;
  const void* action;
  const float *old_logp, *advantage, *ret, *old_value;
  Columns of_seed(long s, long n, long n_policy, long n_value, long actions, bool discrete) const {
    const void* own =
        discrete ? (const void*)((const int64_t*)action + s * n) : (const float*)action + s * n * actions;
    return {policy_obs + s * n * n_policy,
            value_obs + s * n * n_value,
            own,
            old_logp + s * n,
            advantage + s * n,
            ret + s * n,
            old_value + s * n};
  }
};

constexpr long BLOCK = 64;  // rows that go through the networks at a time, so that they stay in the caches
constexpr float HALF_LOG_2PI = 0.918938533f;

// Log densities of one block of rows, and their derivatives
struct Block {
  long rows, actions;
  float *policy_obs, *value_obs, *action, *old_logp, *advantage, *ret, *old_value;
  int64_t* choice;
  float *out, *value, *hidden;                              // outputs of the networks; hidden units of both
  float *out_grad, *value_grad;                             // derivatives of the loss
  float *log_prob, *prob, *logp, *entropy, *ratio, *total;  // (rows, actions) twice, then (rows)
};

struct Sums {  // over the rows of a minibatch
  double policy_loss = 0, value_loss = 0, entropy = 0, approx_kl = 0, clip_fraction = 0;
};

// log pi(action), entropy and what their derivatives need: probabilities, or (action - mean) / deviation
inline void densities(Block& b, bool discrete, const float* log_std, const float* inverse_std) {
  long n = b.rows, A = b.actions;
  if (discrete) {
    for (long i = 0; i < n; i++) {
      float most = b.out[i * A];
      for (long a = 1; a < A; a++) most = maximum(most, b.out[i * A + a]);
      for (long a = 0; a < A; a++) b.log_prob[i * A + a] = b.prob[i * A + a] = b.out[i * A + a] - most;
    }
    each(n * A, b.prob, [](Vec x) { return exponential(x); });
    for (long i = 0; i < n; i++) {
      b.total[i] = 0;
      for (long a = 0; a < A; a++) b.total[i] += b.prob[i * A + a];
      b.logp[i] = b.total[i];
    }
    each(n, b.logp, [](Vec x) { return logarithm(x); });
    for (long i = 0; i < n; i++) {
      float log_total = b.logp[i], share = 1 / b.total[i];
      b.entropy[i] = 0;
      for (long a = 0; a < A; a++) {
        b.log_prob[i * A + a] -= log_total;
        b.prob[i * A + a] *= share;
        b.entropy[i] -= b.prob[i * A + a] * b.log_prob[i * A + a];
      }
      b.logp[i] = b.log_prob[i * A + b.choice[i]];
    }
    return;
  }
  float entropy = 0;
  for (long a = 0; a < A; a++) entropy += log_std[a] + (0.5f + HALF_LOG_2PI);
  for (long i = 0; i < n; i++) {
    b.entropy[i] = entropy, b.logp[i] = 0;
    for (long a = 0; a < A; a++) {
      float z = (b.action[i * A + a] - b.out[i * A + a]) * inverse_std[a];
      b.prob[i * A + a] = z;
      b.logp[i] += -0.5f * z * z - log_std[a] - HALF_LOG_2PI;
    }
  }
}

// The value loss h(error), and its derivative
inline float huber(float delta, float error, float* derivative) {
  float size = error < 0 ? -error : error;
  bool square = delta == 0 || !(size > delta);
  *derivative = square ? error : error < 0 ? -delta : delta;
  return square ? 0.5f * error * error : delta * (size - 0.5f * delta);
}

// Add the rows of a block to the sums, and write the derivatives of the loss, a mean over `count` rows
inline void losses(const Objective& o, Block& b, long count, float mean, float factor,
                   const float* inverse_std, float* log_std_grad, Sums& sums) {
  long A = b.actions;
  const float share = 1.0f / count;
  for (long i = 0; i < b.rows; i++) b.logp[i] -= b.old_logp[i], b.ratio[i] = b.logp[i];
  each(b.rows, b.ratio, [](Vec x) { return exponential(x); });
  for (long i = 0; i < b.rows; i++) {
    float ratio = b.ratio[i], advantage = (b.advantage[i] - mean) * factor;
    float clipped = minimum(1 + o.clip, maximum(1 - o.clip, ratio));
    float plain = ratio * advantage, limited = clipped * advantage;
    sums.policy_loss -= minimum(plain, limited);
    sums.entropy += b.entropy[i];
    sums.approx_kl += ratio - 1 - b.logp[i];
    sums.clip_fraction += ratio != clipped;
    float logp_grad = plain > limited ? 0.0f : -plain * share;
    for (long a = 0; a < A; a++) {
      float p = b.prob[i * A + a];
      if (o.discrete) {
        float taken = a == b.choice[i];
        b.out_grad[i * A + a] =
            logp_grad * (taken - p) + o.entropy_coef * share * p * (b.log_prob[i * A + a] + b.entropy[i]);
      } else {
        b.out_grad[i * A + a] = logp_grad * p * inverse_std[a];
        log_std_grad[a] += logp_grad * (p * p - 1) - o.entropy_coef * share;
      }
    }
    float slope, loss = huber(o.huber_delta, b.value[i] - b.ret[i], &slope);
    if (o.clip_value) {
      float change = b.value[i] - b.old_value[i], near = minimum(o.clip, maximum(-o.clip, change)),
            near_slope;
      float near_loss = huber(o.huber_delta, b.old_value[i] + near - b.ret[i], &near_slope);
      if (near != change) near_slope = 0;
      if (near_loss > loss) slope = near_slope;
      if (near_loss == loss) slope = 0.5f * (slope + near_slope);  // as torch.max shares it
      loss = maximum(loss, near_loss);
    }
    sums.value_loss += loss;
    b.value_grad[i] = o.value_coef * slope * share;
  }
}

// Mean, and 1 / (standard deviation + 1e-8), of some rows of x
inline void standard(const float* x, const int64_t* rows, long count, float* mean, float* factor) {
  double sum = 0, squares = 0;
  for (long i = 0; i < count; i++) sum += x[rows[i]];
  *mean = float(sum / count);
  for (long i = 0; i < count; i++) squares += (double(x[rows[i]]) - *mean) * (double(x[rows[i]]) - *mean);
  *factor = float(1 / (__builtin_sqrt(squares / (count - 1)) + 1e-8));
}

// What a step reads of row `from` of the columns of a seed
inline void gather(const Columns& c, bool discrete, long from, long to, long policy_size, long value_size,
                   Block& b) {
  for (long k = 0; k < policy_size; k++)
    b.policy_obs[to * policy_size + k] = c.policy_obs[from * policy_size + k];
  if (c.value_obs != c.policy_obs)
    for (long k = 0; k < value_size; k++)
      b.value_obs[to * value_size + k] = c.value_obs[from * value_size + k];
  if (discrete) b.choice[to] = ((const int64_t*)c.action)[from];
  else
    for (long a = 0; a < b.actions; a++)
      b.action[to * b.actions + a] = ((const float*)c.action)[from * b.actions + a];
  b.old_logp[to] = c.old_logp[from], b.advantage[to] = c.advantage[from];
  b.ret[to] = c.ret[from], b.old_value[to] = c.old_value[from];
}

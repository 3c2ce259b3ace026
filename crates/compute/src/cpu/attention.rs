//! Causal grouped-query attention within documents, in tiles of queries: no T × T matrix in memory.
//!
//! A tile's scores (queries × keys it may see) live in the thread's workspace. The forward's work item is a
//! (row, query head), the backward's a (row, key/value head), so that dK and dV have one writer.

use super::buffer::Shared;
use super::device::Cpu;
use super::simd::{self, dot, exp_in_place, maximum, scale_in_place, scaled_copy, simd};
use super::vector::{Element, with_element};
use super::view::{Output, Start, View};
use super::workspace::{AttentionBuffers, TILE};
use crate::device::{Attention, AttentionBackward, CachedAttention};
use crate::tensor::DType;

/// One head's queries of a tile and the keys they may see, as row indices within the sequence.
struct Tile {
    first_query: usize,
    queries: usize,
    first_key: usize,
    keys: usize,
}

fn tiles(sequence_length: usize, starts: &[u32]) -> impl Iterator<Item = Tile> + '_ {
    (0..sequence_length).step_by(TILE).map(move |first_query| {
        let queries = TILE.min(sequence_length - first_query);
        // Document starts never decrease, so the tile's first query looks furthest back.
        let first_key = starts[first_query] as usize;
        Tile { first_query, queries, first_key, keys: first_query + queries - first_key }
    })
}

fn matrix(pointer: *mut u8, rows: usize, columns: usize) -> View {
    View { pointer, dtype: DType::F32, rows, columns, row_stride: columns, column_stride: 1 }
}

fn output(view: View, start: Start) -> Output {
    Output { pointer: view.pointer.cast_mut(), dtype: view.dtype, row_stride: view.row_stride, start }
}

/// A row of a tile's matrix, to read.
///
/// # Safety
/// The row exists and nobody writes it meanwhile.
unsafe fn read<'a, E: Element>(view: View, r: usize) -> &'a [E] {
    // SAFETY: the caller's promise; columns are contiguous.
    unsafe { std::slice::from_raw_parts(view.elements::<E>().add(r * view.row_stride), view.columns) }
}

/// A row of a tile's matrix, to write.
///
/// # Safety
/// The row exists and nobody else holds it.
unsafe fn row<'a, E: Element>(view: View, r: usize) -> &'a mut [E] {
    let from = view.elements::<E>().cast_mut();
    // SAFETY: the caller's promise; columns are contiguous.
    unsafe { std::slice::from_raw_parts_mut(from.add(r * view.row_stride), view.columns) }
}

impl Cpu {
    pub(super) fn attention_forward(&mut self, op: Attention) {
        with_element!(op.q.dtype, E => self.attention_forward_of::<E>(op));
    }

    fn attention_forward_of<E: Element>(&mut self, op: Attention) {
        let (t, d) = (op.sequence_length, op.head_dim);
        let heads = op.q.columns / d;
        let group = op.q.columns / op.k.columns;
        let starts = self.arena.ids(op.document_starts);
        let views = Shared([op.q, op.k, op.v, op.out, op.lse].map(|x| self.view(x)));
        let kernels = self.kernels;
        let workspaces = Shared(self.workspaces.as_mut_ptr());
        self.pool.run(op.batch_size * heads, &|item, thread| {
            let (b, head) = (item / heads, item % heads);
            let [q, k, v, out, lse] = views.get();
            // SAFETY: one workspace a thread; each item writes its own head's columns of its own rows.
            unsafe {
                let workspace = &mut *workspaces.get().add(thread);
                for tile in tiles(t, &starts[b * t..(b + 1) * t]) {
                    let (query, key) = (b * t + tile.first_query, b * t + tile.first_key);
                    let q = q.block(query, head * d, tile.queries, d);
                    let k = k.block(key, head / group * d, tile.keys, d);
                    let v = v.block(key, head / group * d, tile.keys, d);
                    let out = out.block(query, head * d, tile.queries, d);
                    let scores = workspace.scores.ensure(tile.queries * tile.keys * 4);
                    let scores = matrix(scores, tile.queries, tile.keys);
                    let sum = matrix(workspace.sums.ensure(tile.queries * d * 4), tile.queries, d);
                    workspace.multiply(kernels, q, k.transposed(), output(scores, Start::Zero));
                    let mut sums = [0.0; TILE];
                    for (i, sum) in sums.iter_mut().enumerate().take(tile.queries) {
                        let at = tile.first_query + i;
                        let visible = starts[b * t + at] as usize - tile.first_key..at + 1 - tile.first_key;
                        let row = row::<f32>(scores, i);
                        row[..visible.start].fill(0.0);
                        row[visible.end..].fill(0.0);
                        let seen = &mut row[visible];
                        let max = maximum(seen) * op.scale;
                        *sum = exp_in_place(seen, op.scale, max);
                        let to = lse.elements::<f32>().cast_mut();
                        *to.add((query + i) * lse.row_stride + head) = max + sum.ln();
                    }
                    workspace.multiply(kernels, scores, v, output(sum, Start::Zero));
                    for (i, total) in sums.iter().enumerate().take(tile.queries) {
                        scaled_copy(row::<E>(out, i), 1.0 / total, read::<f32>(sum, i));
                    }
                }
            }
        });
        AttentionBuffers::level(&mut self.workspaces);
    }

    pub(super) fn attention_gradients(&mut self, op: AttentionBackward) {
        with_element!(op.dq.dtype, E => self.attention_gradients_of::<E>(op));
    }

    fn attention_gradients_of<E: Element>(&mut self, op: AttentionBackward) {
        let f = op.forward;
        let (t, d) = (f.sequence_length, f.head_dim);
        let kv_heads = f.k.columns / d;
        let group = f.q.columns / f.k.columns;
        let starts = self.arena.ids(f.document_starts);
        let views = [f.q, f.k, f.v, f.out, f.lse, op.dout, op.dq, op.dk, op.dv];
        let views = Shared(views.map(|x| self.view(x)));
        let kernels = self.kernels;
        let workspaces = Shared(self.workspaces.as_mut_ptr());
        self.pool.run(f.batch_size * kv_heads, &|item, thread| {
            let (b, kv_head) = (item / kv_heads, item % kv_heads);
            let [q, k, v, out, lse, dout, dq, dk, dv] = views.get();
            let sequence = |x: View| x.block(b * t, kv_head * d, t, d);
            // SAFETY: one workspace a thread; each item writes its own heads' columns of its own rows.
            unsafe {
                let workspace = &mut *workspaces.get().add(thread);
                let dk_sum = matrix(workspace.dk.ensure(t * d * 4), t, d);
                let dv_sum = matrix(workspace.dv.ensure(t * d * 4), t, d);
                for r in 0..t {
                    row::<f32>(dk_sum, r).fill(0.0);
                    row::<f32>(dv_sum, r).fill(0.0);
                }
                for head in kv_head * group..(kv_head + 1) * group {
                    for tile in tiles(t, &starts[b * t..(b + 1) * t]) {
                        let query = b * t + tile.first_query;
                        let queries = |x: View| x.block(query, head * d, tile.queries, d);
                        let keys = |x: View| x.block(tile.first_key, 0, tile.keys, d);
                        let (q, out, dout, dq) = (queries(q), queries(out), queries(dout), queries(dq));
                        let (k, v) = (keys(sequence(k)), keys(sequence(v)));
                        let size = tile.queries * tile.keys * 4;
                        let p = matrix(workspace.scores.ensure(size), tile.queries, tile.keys);
                        let ds = matrix(workspace.gradients.ensure(size), tile.queries, tile.keys);
                        let sum = matrix(workspace.sums.ensure(tile.queries * d * 4), tile.queries, d);
                        workspace.multiply(kernels, q, k.transposed(), output(p, Start::Zero));
                        workspace.multiply(kernels, dout, v.transposed(), output(ds, Start::Zero));
                        for i in 0..tile.queries {
                            let at = tile.first_query + i;
                            let visible =
                                starts[b * t + at] as usize - tile.first_key..at + 1 - tile.first_key;
                            let delta = dot(read::<E>(out, i), read::<E>(dout, i));
                            let lse = *lse.elements::<f32>().add((query + i) * lse.row_stride + head);
                            let (p, ds) = (row::<f32>(p, i), row::<f32>(ds, i));
                            for x in [&mut *p, &mut *ds] {
                                x[..visible.start].fill(0.0);
                                x[visible.end..].fill(0.0);
                            }
                            score_gradient(&mut p[visible.clone()], &mut ds[visible], f.scale, lse, delta);
                        }
                        workspace.multiply(kernels, ds, k, output(sum, Start::Zero));
                        for i in 0..tile.queries {
                            scaled_copy(row::<E>(dq, i), 1.0, read::<f32>(sum, i));
                        }
                        let (dk, dv) = (keys(dk_sum), keys(dv_sum));
                        workspace.multiply(kernels, ds.transposed(), q, output(dk, Start::Accumulate));
                        workspace.multiply(kernels, p.transposed(), dout, output(dv, Start::Accumulate));
                    }
                }
                let (dk, dv) = (sequence(dk), sequence(dv));
                for r in 0..t {
                    scaled_copy(row::<E>(dk, r), 1.0, read::<f32>(dk_sum, r));
                    scaled_copy(row::<E>(dv, r), 1.0, read::<f32>(dv_sum, r));
                }
            }
        });
        AttentionBuffers::level(&mut self.workspaces);
    }

    pub(super) fn attention_to_cache(&mut self, op: CachedAttention) {
        let group = op.q.columns / op.k.columns;
        assert!(op.q.columns == group * op.k.columns && op.q.rows == op.k.rows, "{op:?}");
        let (sequences, positions) = (self.arena.ids(op.sequences), self.arena.ids(op.positions));
        assert_eq!((sequences.len(), positions.len()), (op.q.rows, op.q.rows), "{op:?}");
        let firsts = op.first_positions.map(|firsts| self.arena.ids(firsts));
        let place = |r: usize| (sequences[r] as usize, positions[r] as usize);
        assert!((0..op.q.rows).all(|r| place(r).1 < op.capacity), "{op:?}");
        if let Some(firsts) = firsts {
            assert!(firsts.iter().zip(positions).all(|(first, position)| first <= position), "{op:?}");
        }
        for (from, to) in [(op.k, op.key_cache), (op.v, op.value_cache)] {
            for r in 0..op.q.rows {
                let (sequence, position) = place(r);
                self.copy_rows(from.row_range(r, 1), to.row_range(sequence * op.capacity + position, 1));
            }
        }
        // Neighbors of one sequence share a tile.
        let mut tiles: Vec<CacheTile> = Vec::new();
        for r in 0..op.q.rows {
            let (sequence, position) = place(r);
            match tiles.last_mut() {
                Some(tile)
                    if tile.rows < TILE
                        && tile.first_key == sequence * op.capacity
                        && tile.past + tile.rows == position =>
                {
                    tile.rows += 1;
                }
                _ => tiles.push(CacheTile {
                    first_row: r,
                    rows: 1,
                    first_key: sequence * op.capacity,
                    past: position,
                    unseen: firsts.map_or(0, |firsts| firsts[r] as usize),
                }),
            }
        }
        with_element!(op.key_cache.dtype, C => self.attention_to_tiles::<C>(op, &tiles));
    }

    fn attention_to_tiles<C: Element>(&mut self, op: CachedAttention, tiles: &[CacheTile]) {
        let d = op.head_dim;
        let heads = op.q.columns / d;
        let group = op.q.columns / op.k.columns;
        let views = Shared([op.q, op.key_cache, op.value_cache, op.out].map(|x| self.view(x)));
        let firsts = op.first_positions.map(|firsts| self.arena.ids(firsts));
        let kernels = self.kernels;
        let workspaces = Shared(self.workspaces.as_mut_ptr());
        // Heads are shared among threads where there are few tiles.
        let parts = if tiles.len() < 4 * self.pool.threads() { heads } else { 1 };
        self.pool.run(tiles.len() * parts, &|item, thread| {
            let tile = &tiles[item / parts];
            for head in (0..heads).filter(|head| head % parts == item % parts) {
                let [q, k, v, out] = views.get();
                // Of the keys from the first that any row sees on.
                let keys = tile.past + tile.rows - tile.unseen;
                let visible = |i: usize| {
                    let first = firsts.map_or(0, |firsts| firsts[tile.first_row + i] as usize);
                    first - tile.unseen..tile.past + i + 1 - tile.unseen
                };
                let queries = |x: View| x.block(tile.first_row, head * d, tile.rows, d);
                let cached = |x: View| x.block(tile.first_key + tile.unseen, head / group * d, keys, d);
                let (q, k, v, out) = (queries(q), cached(k), cached(v), queries(out));
                // SAFETY: one workspace a thread; each item writes one head of its own rows; the caches are
                // only read.
                unsafe {
                    let workspace = &mut *workspaces.get().add(thread);
                    let scores = matrix(workspace.scores.ensure(tile.rows * keys * 4), tile.rows, keys);
                    let few = tile.rows < MULTIPLIED_ROWS;
                    // Where products are of f32 alone, the cache is brought to it.
                    let (k, v) = if few || C::DTYPE == DType::F32 || kernels.has_bf16() {
                        (k, v)
                    } else {
                        let wide = [(k, &mut workspace.dk), (v, &mut workspace.dv)].map(|(from, buffer)| {
                            let to = matrix(buffer.ensure(keys * d * 4), keys, d);
                            for key in 0..keys {
                                scaled_copy(row::<f32>(to, key), 1.0, read::<C>(from, key));
                            }
                            to
                        });
                        (wide[0], wide[1])
                    };
                    if !few {
                        workspace.multiply(kernels, q, k.transposed(), output(scores, Start::Zero));
                    }
                    let mut sums = [0.0; TILE];
                    for (i, sum) in sums.iter_mut().enumerate().take(tile.rows) {
                        let visible = visible(i);
                        let (seen, after) = row::<f32>(scores, i).split_at_mut(visible.end);
                        let (before, seen) = seen.split_at_mut(visible.start);
                        if few {
                            let keys = &neighbors::<C>(k)[visible.start * k.row_stride..];
                            simd::scores(seen, read::<f32>(q, i), keys, k.row_stride);
                        }
                        before.fill(0.0);
                        after.fill(0.0);
                        let max = maximum(seen) * op.scale;
                        *sum = exp_in_place(seen, op.scale, max);
                    }
                    if !few {
                        workspace.multiply(kernels, scores, v, output(out, Start::Zero));
                    }
                    for (i, &sum) in sums.iter().enumerate().take(tile.rows) {
                        let to = row::<f32>(out, i);
                        if few {
                            let visible = visible(i);
                            let values = &neighbors::<C>(v)[visible.start * v.row_stride..];
                            simd::mix(to, &read::<f32>(scores, i)[visible], values, v.row_stride);
                        }
                        scale_in_place(to, 1.0 / sum);
                    }
                }
            }
        });
    }
}

/// Tokens that follow each other in one sequence, with what they may see of the cache.
struct CacheTile {
    first_row: usize,
    rows: usize,
    /// The sequence's first row of the cache.
    first_key: usize,
    /// Position of the first row.
    past: usize,
    /// Positions before the first one that any row sees.
    unseen: usize,
}

/// From this many queries on, products beat dots of rows.
const MULTIPLIED_ROWS: usize = 8;

/// All of a matrix's rows, with what lies between them.
///
/// # Safety
/// The view is valid and nobody writes its rows meanwhile.
unsafe fn neighbors<'a, E: Element>(view: View) -> &'a [E] {
    let len = (view.rows - 1) * view.row_stride + view.columns;
    // SAFETY: the caller's promise; what lies between are other heads of the same rows.
    unsafe { std::slice::from_raw_parts(view.elements::<E>(), len) }
}

simd! {
    /// Scores become probabilities, and their gradient the gradient of the unscaled scores: p·(dp − δ)·scale.
    fn score_gradient(scores: &mut [f32], gradients: &mut [f32], scale: f32, lse: f32, delta: f32) {
        exp_scores(scores, scale, lse);
        let n = scores.len();
        let gradients = &mut gradients[..n];
        for i in 0..n {
            gradients[i] = scores[i] * (gradients[i] - delta) * scale;
        }
    }
}

#[inline(always)]
fn exp_scores(scores: &mut [f32], scale: f32, lse: f32) {
    for s in scores {
        *s = super::simd::exp(*s * scale - lse);
    }
}

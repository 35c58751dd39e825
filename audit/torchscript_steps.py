# ruff: noqa: E501 - one step per line
"""Lines of PyTorch modules that keep rows independent, and lines that mix them, for `torchscript_graphs.py`.

In each text, `x` is the tensor, whose first dimension is the batch; `{d}` is its last size, `{r}` its rank, and `{k}` a
number that makes names distinct. A step declares the ranks it accepts, its lines, the lines of the module's
constructor, and the last size afterwards.
"""

from typing import NamedTuple


class Step(NamedTuple):
    name: str
    ranks: tuple[int, ...]
    lines: str
    made: str = ""
    last: int = 0  # 0: unchanged; -n: n times as large; 99: two more
    rank: int = 0  # 0: unchanged
    exports: bool = True  # whether torch.export supports it


ANY, SEQUENCE, PICTURE, FLAT = (2, 3, 4), (3,), (4,), (2,)
APART = [
    Step("activation", ANY, "x = torch.tanh(x) * torch.sigmoid(x)"),
    Step("linear", ANY, "x = self.l{k}(x)", "self.l{k} = nn.Linear({d}, 6)", 6),
    Step("layer_norm", ANY, "x = self.n{k}(x)", "self.n{k} = nn.LayerNorm({d})"),
    Step("softmax", ANY, "x = torch.softmax(x, -1)"),
    Step("centred", ANY, "x = x - x.mean(-1, keepdim=True)"),
    Step("folded", ANY, "x = self.f{k}(x.reshape(-1, {d})).view(x.shape)", "self.f{k} = nn.Linear({d}, {d})"),
    Step("flat_and_back", ANY, "x = x.reshape(x.size(0), -1).relu().view(x.shape)"),
    Step("batch_last", ANY, "x = x.transpose(0, {r} - 1).contiguous().exp().neg().transpose(0, {r} - 1)"),
    Step("doubled", ANY, "x = torch.cat([x, x * 2], -1)", "", -2),
    Step("parts", (2, 3), "a{k}, b{k} = x.repeat_interleave(2, -1).chunk(2, -1)\nx = a{k} * b{k}.sigmoid()"),
    Step("twice_as_many", ANY, "y{k} = torch.cat([x, -x], 0)\nx = y{k}[: x.size(0)] if False else torch.chunk(y{k}, 2, 0)[0] + x"),
    Step("in_place", ANY, "x = x.clone()\nx.add_(1.0).mul_(0.5)\nx += 0.1"),
    Step("written_column", ANY, "x = x.clone()\nx[..., 0] = 0.5\nx[..., -1] += 1.0"),
    Step("view_sees_write", ANY, "x = x.clone()\nv{k} = x[..., :1]\nx.mul_(2.0)\nx = x + v{k}"),
    Step("filled_in", ANY, "o{k} = torch.zeros_like(x)\no{k}[..., 0].copy_(x[..., -1])\nx = x + o{k}"),
    Step("filled_by_size", FLAT, "o{k} = torch.zeros(x.size(0), {d})\no{k}[:, 1:] = x[:, 1:]\nx = x + o{k}"),
    Step("masked", ANY, "x = x.masked_fill(x < 0, -1.0)"),
    Step("chosen", ANY, "x = torch.where(x > x.mean(-1, keepdim=True), x, -x)"),
    Step("sorted", ANY, "x = x.sort(-1)[0]"),
    Step("top", ANY, "t{k}, i{k} = x.topk(2, -1)\nx = t{k} + x.gather(-1, i{k})", "", 2),
    Step("moved", ANY, "x = torch.roll(x, 1, -1) + x.flip(-1)"),
    Step("summed_along", ANY, "x = torch.cumsum(x, -1)"),
    Step("own_place", ANY, "x = x + self.p{k}", "self.p{k} = nn.Parameter(torch.randn({d}))"),
    Step("taken", ANY, "x = x[..., self.i{k}]", "self.register_buffer('i{k}', torch.tensor([0, 1, 1]))", 3),
    Step("padded", ANY, "x = nn.functional.pad(x, [1, 1])", "", 99),
    Step("class_vector", ANY, "x = x + nn.functional.one_hot(x.argmax(-1), {d}).float()"),
    Step("normal_length", ANY, "x = nn.functional.normalize(x, dim=-1)"),
    Step("in_a_list", ANY, "l{k} = [x]\nfor i in range(2):\n    l{k}.append(l{k}[-1] * 0.5)\nx = torch.stack(l{k}, 1).mean(1)"),
    Step("if_on_rank", ANY, "if x.dim() == 3:\n    x = x + 1\nelse:\n    x = x - 1"),
    Step("if_training", ANY, "if self.training:\n    x = x - x.mean(0)"),
    Step("row_norm", FLAT, "x = x / (x.norm(dim=1).unsqueeze(1) + 1)"),
    Step("batch_norm", FLAT, "x = self.b{k}(x)", "self.b{k} = nn.BatchNorm1d({d})"),
    Step("attention", SEQUENCE, "q{k} = self.q{k}(x)\nx = torch.bmm(torch.softmax(torch.bmm(q{k}, x.transpose(1, 2)), -1), x)",
         "self.q{k} = nn.Linear({d}, {d})"),
    Step("heads", SEQUENCE, "b{k}, t{k} = x.size(0), x.size(1)\nh{k} = self.h{k}(x).view(b{k}, t{k}, 2, 4).transpose(1, 2)\n"
         "h{k} = nn.functional.scaled_dot_product_attention(h{k}, h{k}, h{k})\n"
         "x = h{k}.transpose(1, 2).reshape(b{k}, t{k}, 8)", "self.h{k} = nn.Linear({d}, 8)", 8),
    Step("module_attention", SEQUENCE, "x = self.m{k}(x, x, x)[0]", "self.m{k} = nn.MultiheadAttention({d}, 1, batch_first=True)"),
    Step("encoder", SEQUENCE, "x = self.e{k}(x)", "self.e{k} = nn.TransformerEncoderLayer({d}, 1, 8, batch_first=True)"),
    Step("lstm", SEQUENCE, "x = self.r{k}(x)[0]", "self.r{k} = nn.LSTM({d}, 5, batch_first=True, bidirectional=True)", 10),
    Step("gru_time_first", SEQUENCE, "y{k}, h{k} = self.g{k}(x.transpose(0, 1))\nx = y{k}.transpose(0, 1) + h{k}[-1].unsqueeze(1)",
         "self.g{k} = nn.GRU({d}, 5)", 5),
    Step("given_state", SEQUENCE, "x = self.s{k}(x, torch.zeros(1, x.size(0), 5))[0]", "self.s{k} = nn.RNN({d}, 5, batch_first=True)", 5),
    Step("places", SEQUENCE, "x = x + self.t{k}(torch.arange(x.size(1)))", "self.t{k} = nn.Embedding(64, {d})"),
    Step("over_time", SEQUENCE, "x = x - x.amax(1, keepdim=True)"),
    Step("conv1d", SEQUENCE, "x = self.c{k}(x.transpose(1, 2)).transpose(1, 2)", "self.c{k} = nn.Conv1d({d}, 6, 3, padding=1)", 6),
    Step("cell_by_cell", SEQUENCE, "h{k} = torch.zeros(x.size(0), 5)\nfor i in range(3):\n    h{k} = self.u{k}(x[:, i % 2], h{k})\n"
         "x = x.mean(-1, keepdim=True) + h{k}.unsqueeze(1)", "self.u{k} = nn.GRUCell({d}, 5)", 5),
    Step("step_by_step", SEQUENCE, "h{k} = torch.zeros(x.size(0), {d})\nfor i in range(x.size(1)):\n    h{k} = torch.tanh(h{k} + x[:, i])\n"
         "x = x + h{k}.unsqueeze(1)", exports=False),
    Step("causal", SEQUENCE, "m{k} = torch.tril(torch.ones(x.size(1), x.size(1)))\n"
         "s{k} = (x @ x.transpose(1, 2)).masked_fill(m{k} == 0, -1e9)\nx = s{k}.softmax(-1) @ x"),
    Step("einsum", SEQUENCE, "x = torch.einsum('btd,bsd->bts', x, x).softmax(-1) @ x"),
    Step("mean_time", SEQUENCE, "x = x.mean(1)", rank=2),
    Step("first_time", SEQUENCE, "x = x[:, 0]", rank=2),
    Step("conv", PICTURE, "x = torch.relu(self.c{k}(x))", "self.c{k} = nn.Conv2d(3, 3, 3, padding=1)"),
    Step("norm2d", PICTURE, "x = self.b{k}(x)", "self.b{k} = nn.BatchNorm2d(3)"),
    Step("group_norm", PICTURE, "x = self.g{k}(x)", "self.g{k} = nn.GroupNorm(1, 3)"),
    Step("instance_norm", PICTURE, "x = self.i{k}(x)", "self.i{k} = nn.InstanceNorm2d(3)"),
    Step("excite", PICTURE, "x = x * torch.sigmoid(nn.functional.adaptive_avg_pool2d(x, 1))"),
    Step("resized", PICTURE, "x = nn.functional.interpolate(nn.functional.max_pool2d(x, 2), size=[4, {d}])"),
    Step("patches", PICTURE, "x = x.flatten(2).transpose(1, 2)", last=3, rank=3),
    Step("flatten", PICTURE, "x = torch.flatten(nn.functional.adaptive_avg_pool2d(x, [2, 2]), 1)", last=12, rank=2),
]  # fmt: skip

MEET = [
    Step("batch_mean_removed", ANY, "x = x - x.mean(0, keepdim=True)"),
    Step("whole_maximum", ANY, "x = x / (x.abs().max() + 0.5)"),
    Step("softmax_over_batch", ANY, "x = torch.softmax(x, 0)"),
    Step("running_sum", ANY, "x = torch.cumsum(x, 0)"),
    Step("statistics_of_the_batch", FLAT, "x = self.b{k}(x.repeat(2, 1))[: x.size(0)]", "self.b{k} = nn.BatchNorm1d({d}, track_running_stats=False)"),
    Step("statistics_of_pictures", PICTURE, "x = self.b{k}(x)", "self.b{k} = nn.BatchNorm2d(3, track_running_stats=False)"),
    Step("neighbour", ANY, "x = x + torch.roll(x, 1, 0)"),
    Step("turned", ANY, "x = x + x.flip(0)"),
    Step("first_row", ANY, "x = x - x[0]"),
    Step("first_rows", ANY, "x = x - x[:1]"),
    Step("last_row", ANY, "x = x - x.select(0, -1)"),
    Step("gram", FLAT, "x = torch.softmax(x @ x.t(), -1) @ x"),
    Step("batch_first_forgotten", SEQUENCE, "x = self.r{k}(x)[0]", "self.r{k} = nn.LSTM({d}, 5)", 5),
    Step("attention_over_batch", SEQUENCE, "x = self.m{k}(x, x, x)[0]", "self.m{k} = nn.MultiheadAttention({d}, 1)"),
    Step("batch_size_in_values", ANY, "x = x / x.size(0)"),
    Step("branch_on_batch", ANY, "if bool(x.max() > 1.0):\n    x = -x\nelse:\n    x = torch.tanh(x)", exports=False),
    Step("loop_to_the_largest", ANY, "n{k} = int(x.abs().max().item())\nfor i in range(min(n{k}, 6)):\n    x = x * 0.5", exports=False),
    Step("branch_on_size", ANY, "if x.size(0) > 2:\n    x = x + 1", exports=False),
    Step("noise", ANY, "x = x + torch.randn_like(x)"),
    Step("sorted_rows", FLAT, "x = x[x[:, 0].argsort()]"),
    Step("sorted_over_batch", ANY, "x = x.sort(0)[0]"),
    Step("normalised_over_batch", ANY, "x = nn.functional.normalize(x, dim=0)"),
    Step("rank_among_rows", FLAT, "s{k} = x.mean(1, keepdim=True)\nx = x + (s{k} > s{k}.t()).float().sum(1, keepdim=True)"),
    Step("whole_as_one_row", ANY, "x = torch.softmax(x.reshape(1, -1), -1).view(x.shape)"),
    Step("rows_numbered", FLAT, "x = x + torch.arange(x.size(0)).unsqueeze(1)"),
    Step("added_through_a_view", ANY, "x = x.clone()\nx[..., 0].add_(x[..., 0].mean())"),
    Step("written_first_row", ANY, "x = x.clone()\nx[0] = 0.5"),
    Step("view_of_first_row", ANY, "y{k} = x.clone()\nv{k} = y{k}[:1]\ny{k}.add_(1)\nx = x + v{k}"),
    Step("filled_from_sum", ANY, "o{k} = torch.zeros({d})\nv{k} = o{k}[:]\nv{k} += x.reshape(-1, {d}).sum(0)\nx = x + o{k}"),
    Step("filled_backwards", ANY, "o{k} = torch.zeros_like(x)\no{k}.view(-1).copy_(x.reshape(-1).flip(0))\nx = x + o{k}"),
    Step("list_sees_write", FLAT, "y{k} = x.clone()\nl{k} = [x, y{k}]\ny{k}.sub_(x.mean(0))\nx = torch.cat(l{k}, 1)", "", -2),
    Step("written_in_a_branch", ANY, "x = x.clone()\nif x.dim() > 1:\n    x.sub_(x.mean(0))"),
    Step("written_in_a_loop", ANY, "x = x.clone()\nfor i in range(2):\n    x.mul_(x.sum())\n    x.div_(x.abs().max() + 1)"),
    Step("diagonal_of_pairs", FLAT, "x = x + (x @ x.t()).triu(1).sum(1, keepdim=True)"),
    Step("mixed_up_view", FLAT, "x = x.t().reshape(x.size(0), {d})"),
    Step("distances", FLAT, "x = x + torch.cdist(x, x).mean(1, keepdim=True)"),
    Step("one_table", FLAT, "x = x + nn.functional.embedding(x.argmax(0), x).sum()"),
    Step("einsum_over_batch", FLAT, "x = torch.einsum('ad,bd->ab', x, x) @ x"),
    Step("largest_over_batch", FLAT, "x = x - x.max(0)[0]"),
    Step("clamped_by_the_batch", FLAT, "x = torch.minimum(x, x.mean())"),
    Step("scattered", FLAT, "x = x + torch.zeros_like(x).scatter_add(0, torch.zeros_like(x).long(), x)"),
]  # fmt: skip

# Endings after which the number of rows in an output depends on values.
COUNTS = [
    Step("hits", ANY, "return (x > 0.7).nonzero()"),
    Step("kept_rows", ANY, "return x[x.reshape(x.size(0), -1).amax(1) > 0.3]"),
    Step("distinct", ANY, "return torch.unique(x.reshape(x.size(0), -1).argmax(-1))"),
    Step("selected", ANY, "return torch.masked_select(x, x > 0)"),
    Step("one_for_all", ANY, "return x.mean(0)"),
    Step("batch_behind", FLAT, "return x.t()"),
]

"""Small programs that write in place, each beside the same without a write (test_inplace.py)."""

from __future__ import annotations

PROGRAMS = {}


def program(pure):
    """Add a program to the table; ``pure`` does the same without writing, None: it is refused."""

    def add(function):
        PROGRAMS[function.__name__] = function, pure
        return function

    return add


# --- one name ---


@program(lambda m, x, z: x * 2 + 1)
def add_a_number(m, x, z):
    y = x * 2
    y += 1
    return y


@program(lambda m, x, z: x * 2 * z)
def multiply_by_a_tracked_tensor(m, x, z):
    y = x * 2  # the product needs the value that it overwrites
    y *= z
    return y


@program(lambda m, x, z: (x * 2) ** 2)
def multiply_by_itself(m, x, z):
    y = x * 2
    y *= y
    return y


@program(lambda m, x, z: (z / x) ** 3 - x)
def several_writes(m, x, z):
    y = x.clone()
    y.copy_(z).div_(x).pow_(3).sub_(x)
    return y


@program(lambda m, x, z: (x * 2).exp() + 1)
def write_after_exp_in_place(m, x, z):
    y = x * 2
    y.exp_()
    y.add_(1)  # PyTorch has saved y itself and refuses; here the result of exp was saved
    return y


@program(lambda m, x, z: x * 0)
def zero(m, x, z):
    y = x * 2
    y.zero_()
    return y


@program(lambda m, x, z: m.cat([x[:1] * 0 + 5, x[1:] * 2]))
def assign_a_number(m, x, z):
    y = x * 2
    y[0] = 5
    return y


@program(lambda m, x, z: m.cat([x[:1] * 2, z.reshape(1, 3)]))
def assign_a_tensor(m, x, z):
    y = x * 2
    y[1] = z
    return y


@program(lambda m, x, z: m.stack([x[:, 0] * 2, z[:2], x[:, 2] * 2], 1))
def assign_a_column(m, x, z):
    y = x * 2
    y[:, 1] = z[:2]
    return y


@program(lambda m, x, z: m.where(x > 0.6, z[1], x * 2))
def assign_to_a_mask_by_broadcasting(m, x, z):
    y = x * 2
    y[x > 0.6] = z[1]
    return y


@program(lambda m, x, z: m.stack([z, x[0]]))
def assign_to_integers(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    y[m.tensor([1, 0])] = m.stack([x[0], z])
    return y


@program(lambda m, x, z: m.stack([z, z]) + x)
def assign_with_leading_ones(m, x, z):
    y = x * 1
    y[0] = z.reshape(1, 3)
    y[1:] = z.reshape(1, 1, 3)
    return y + x


@program(lambda m, x, z: m.stack([z, z * 0]).to(m.float32))
def assign_to_another_dtype(m, x, z):
    y = m.zeros(2, 3)
    y[0] = z
    return y


@program(lambda m, x, z: z * 0 + m.tensor([0, 3, 0]))
def assign_to_integers_cuts(m, x, z):
    y = m.zeros(3, dtype=m.int64)
    y[1] = z[1]
    return y + z * 0


@program(lambda m, x, z: m.where(x > 0.6, 0.3, x * 2))
def masked_fill(m, x, z):
    y = x * 2
    y.masked_fill_(x > 0.6, 0.3)
    return y


@program(lambda m, x, z: m.stack([z, z]))
def copy_broadcasts(m, x, z):
    y = x * 2
    y.copy_(z)
    return y


@program(lambda m, x, z: x * 2 + x * 2 + 1)
def a_constant_becomes_tracked(m, x, z):
    y = m.ones(2, 3, dtype=m.float64)
    y += x * 2
    return y + x * 2


@program(lambda m, x, z: m.stack([z * (k + 1) for k in range(4)]) + 0)
def fill_a_buffer_in_a_loop(m, x, z):
    y, total = m.zeros(4, 3, dtype=m.float64), 0
    for k in range(4):
        total = total + z
        y[k] = total
    return y


# --- several names ---


@program(lambda m, x, z: m.stack([x[0] * 2 + 1, x[1] * 2]))
def augment_a_row(m, x, z):
    y = x * 2
    y[0] += 1
    return y


@program(lambda m, x, z: m.stack([x[0], x[1] * z]))
def augment_a_row_by_a_tracked_tensor(m, x, z):
    y = x * 1
    y[1] *= z
    return y


@program(lambda m, x, z: m.stack([z * 0, z]))
def augment_a_row_of_a_constant(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    y[1] += z
    return y


@program(lambda m, x, z: m.stack([x[0] * 2, z]))
def write_through_a_view(m, x, z):
    y = x * 2
    v = y[1]
    v.copy_(z)
    return y


@program(lambda m, x, z: (x * 2)[1] * z)
def write_beside_a_view(m, x, z):
    y = x * 2
    v = y[1]
    y[0] = z
    return v * z


@program(lambda m, x, z: m.cat([z * 0 + 7, x[1] * 2]) * m.cat([z, z]))
def a_view_sees_the_write(m, x, z):
    y = x * 2
    v = y.reshape(-1)
    y[0] = 7
    return v * m.cat([z, z])


@program(lambda m, x, z: m.stack([x[0] * 2, z]).T.exp())
def a_view_of_a_view_sees_the_write(m, x, z):
    y = x * 2
    v = y.T[:, :]
    y.reshape(2, 3)[1] = z
    return v.exp()


@program(lambda m, x, z: (x * 2)[0] * 0 + z[0])
def one_element_is_a_view_too(m, x, z):
    y = x * 2
    v = y[0, 1]
    v.copy_(z[0])
    return y[0, 1] + 0 * z


@program(lambda m, x, z: m.stack([z * 2, x[0] * 2 * 3, z * 2 * 3]).reshape(-1)[1:8])
def overlapping_views(m, x, z):
    y = m.zeros(9, dtype=m.float64)
    first, last = y[:6], y[3:]
    first.copy_(m.cat([z, x[0]]))
    last[3:] = z
    last *= 3
    y *= 2
    return y[1:8]


@program(lambda m, x, z: m.stack([z, z]).T * (x * 2).T)
def an_expanded_view_sees_the_write(m, x, z):
    y = z * 3
    v = y.expand(2, 3)
    y /= 3
    return (v * x * 2).T


@program(lambda m, x, z: m.stack([z + 1, x[1] * 2 + 1]))
def an_untracked_view_becomes_tracked(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    v = y[0]
    y.copy_(x * 2)
    y[0] = z
    return m.stack([v, y[1]]) + 1


# --- through views ---


@program(lambda m, x, z: m.cat([x[:, :1] * 2, x[:, 1:2] * 6, x[:, 2:] * 2], 1))
def write_through_a_chain_of_views(m, x, z):
    y = x * 2
    y.T[1:].T[:, :1].reshape(2).mul_(3)
    return y


@program(lambda m, x, z: x + z)
def write_through_a_transpose(m, x, z):
    y = x * 1
    y.T.copy_((x + z).T)
    return y


@program(lambda m, x, z: x * 2 + z)
def write_through_a_new_dim(m, x, z):
    y = x * 2
    y.unsqueeze(0).add_(z)
    y.squeeze()
    return y


@program(lambda m, x, z: m.cat([x[:, :1], x[:, 1:] * z[1:]], 1))
def write_through_narrow(m, x, z):
    y = x * 1
    y.narrow(1, 1, 2).mul_(z[1:])
    return y


@program(lambda m, x, z: x * m.tensor([[1, -1, 1], [-1, 1, -1]]))
def write_every_second_element_of_a_flat_view(m, x, z):
    y = x * 1
    y.view(-1)[1::2].neg_()
    return y


@program(lambda m, x, z: x * m.tensor([[6, 2, 2], [3, 1, 1]]) + 0 * z)
def writes_through_views_that_overlap(m, x, z):
    y = x * 1
    row, column = y[0], y[:, 0]
    row *= 2
    column *= 3
    return y


@program(lambda m, x, z: m.stack([x[0] * 2 + z, x[1] * 2]).T)
def one_view_sees_a_write_through_another(m, x, z):
    y = x * 2
    row, turned = y[0], y.T
    row += z
    return turned


@program(lambda m, x, z: (x * 4 + 1).sum() * (x * 4 + 1)[1] + z)
def backward_through_the_base_and_a_view(m, x, z):
    y = x * 2
    v = y[1]
    y.mul_(2)
    v.add_(1)
    y[0].add_(1)
    return y.sum() * v + z


@program(lambda m, x, z: m.stack([z, x[1]]) * x)
def a_view_of_a_constant_makes_its_base_tracked(m, x, z):
    y = m.zeros(2, 3, dtype=m.float64)
    top, turned = y[0], y.T
    top.copy_(z)
    turned[:, 1] = x[1]
    return y * x


@program(lambda m, x, z: m.cat([x[:, :1] * z[0], x[:, 1:]], 1))
def write_to_a_part_of_a_split(m, x, z):
    y = x * 1
    first, _ = y.split([1, 2], 1)
    first *= z[0]  # PyTorch refuses to write to one of several views made at once
    return y


@program(lambda m, x, z: m.stack([x[0], z]))
def write_to_a_part_of_unbind(m, x, z):
    y = x * 1
    y.unbind()[1].copy_(z)
    return y


@program(lambda m, x, z: m.cat([x[:, :2] + z[:2], x[:, 2:]], 1))
def write_to_the_base_of_chunks(m, x, z):
    y = x * 1
    first, _ = y.chunk(2, 1)
    y[:, :2] += z[:2]
    return m.cat([first, y[:, 2:]], 1)


@program(lambda m, x, z: x * 2 + (x * 2)[0])
def add_a_row_of_itself(m, x, z):
    y = x * 2
    y += y[0].clone()
    return y


@program(lambda m, x, z: m.stack([x[1], x[0]]) * z)
def exchange_rows(m, x, z):
    y = x * 1
    first = y[0].clone()
    y[0] = y[1]
    y[1] = first
    return y * z


# --- through an index ---


@program(lambda m, x, z: m.cat([x[:, :1], x[:, 1:] - z[1:]], 1))
def augment_a_slice(m, x, z):
    y = x * 1
    y[:, 1:] -= z[1:]
    return y


@program(lambda m, x, z: m.stack([x[0] ** 2, x[1] / z]))
def augment_rows_in_several_ways(m, x, z):
    y = x * 1
    y[0] **= 2
    y[1] /= z
    return y


@program(lambda m, x, z: m.stack([x[:, 0] + z[0], x[:, 1] * 3, x[:, 2] + z[1]], 1))
def assign_to_every_second_column(m, x, z):
    y = x * 3
    y[:, ::2] = x[:, ::2] + z[:2]
    return y


@program(lambda m, x, z: m.stack([m.stack([z[0], x[0, 1], z[1]]), m.stack([z[2], z[0], x[1, 2]])]))
def assign_several_values_to_a_mask(m, x, z):
    y = x * 1
    y[x > 0] = m.cat([z, z[:1]])[m.tensor([0, 1, 2, 3])]
    return y


@program(lambda m, x, z: m.stack([m.stack([x[0, 0], z[0], x[0, 2]]), m.cat([x[1, :2], z[1:2]])]))
def assign_to_pairs_of_integers(m, x, z):
    y = x * 1
    y[[0, 1], [1, 2]] = z[:2]
    return y


@program(lambda m, x, z: m.stack([z, z + x[1], z + x[1]]))
def rows_that_depend_on_rows_before(m, x, z):
    y = m.zeros(3, 3, dtype=m.float64)
    y[0] = z
    y[1] = y[0] + x[1]
    y[2] = y[1]
    return y


@program(lambda m, x, z: m.where(x > 0.6, z[0], x * 2))
def masked_fill_with_a_tracked_tensor(m, x, z):
    y = x * 2
    y.masked_fill_(x > 0.6, z[0])
    return y


# --- forms that need the value they overwrite ---


@program(lambda m, x, z: ((x * x + 1) ** z).sigmoid() * z)
def powers_and_products_in_place(m, x, z):
    y = x * x + 1
    y.pow_(z)
    y.sigmoid_()
    y.mul_(z)
    return y


@program(lambda m, x, z: (x * 2 + 0.5 * x * z) * 0.75 + z * 0.25)
def composed_forms_in_place(m, x, z):
    y = x * 2
    y.addcmul_(x, z, value=0.5)
    y.lerp_(z.expand(2, 3), 0.25)
    return y


@program(lambda m, x, z: (x * 2).clamp(-1, 1) * 3 - z * 2)
def clamp_and_subtract_in_place(m, x, z):
    y = x * 2
    y.clamp_(-1, 1).mul_(3).sub_(z, alpha=2)
    return y


@program(lambda m, x, z: z.sum() * x[0, 0] + 1)
def a_0_dim_tensor(m, x, z):
    y = z.sum()
    y *= x[0, 0]
    y += 1
    return y


# --- what was not saved may be overwritten ---


@program(lambda m, x, z: (x * 2 + 1) * z)
def the_operand_of_a_sum(m, x, z):
    y = x * 2
    u = y + 1
    y.zero_()
    return u * z


@program(lambda m, x, z: m.cat([x * 2, x * 2]).exp() + z)
def the_operands_of_cat_and_exp(m, x, z):
    y = x * 2
    u = m.cat([y, y])
    y.zero_()
    v = u.exp()  # the exponential has saved its result
    u.zero_()
    return v + z


@program(lambda m, x, z: x - x.detach() + z)
def an_untracked_write_keeps_the_history(m, x, z):
    y = x + 1
    with m.no_grad():
        y.zero_()
    return y + z


@program(lambda m, x, z: x * 2 * z)
def a_clone_of_detached_values(m, x, z):
    y = x * 2
    y.detach().clone().zero_()
    return y * z


@program(lambda m, x, z: x * z + x.detach() * z)
def a_leaf_under_no_grad(m, x, z):
    with m.no_grad():
        x *= 2
    return x * z


@program(lambda m, x, z: x * z + 3 * z)
def the_data_of_a_leaf(m, x, z):
    x.data += 3
    return x * z


# --- outside of the graph ---


@program(lambda m, x, z: x * 2 + (z - x[0] * 2).detach())
def a_write_through_detach_has_no_gradient(m, x, z):
    y = x * 2
    y.detach()[0].copy_(z.detach())
    y.detach()[1] += (z - x[0] * 2).detach()
    return y


@program(lambda m, x, z: x * 2 + 1 - 1)
def a_write_under_no_grad_has_no_gradient(m, x, z):
    y = x * 2
    with m.no_grad():
        y += 1
        y[:] -= 1
    return y


@program(lambda m, x, z: x[:, [2, 0]])
def an_index_may_change_later(m, x, z):
    index = m.tensor([2, 0])
    y = x[:, index]
    index -= index  # PyTorch keeps the index itself, and refuses
    return y


# --- refused ---


@program(None)
def a_value_that_exp_saved(m, x, z):
    y = x.exp()
    y += 1
    return y


@program(None)
def a_value_that_a_product_saved(m, x, z):
    y = x * 2
    u = y * z
    y.mul_(3)
    return u


@program(None)
def a_saved_value_through_a_view(m, x, z):
    y = x * 2
    v = y[0]
    u = (y * y).sum() + 0 * y
    v[1] = 0
    return u


@program(None)
def a_saved_value_through_detach(m, x, z):
    y = x.tanh()
    y.detach().zero_()
    return y


@program(None)
def a_saved_value_under_no_grad(m, x, z):
    y = z * z
    with m.no_grad():
        z.add_(1)
    return y


@program(None)
def a_saved_mask(m, x, z):
    mask = x > 0
    y = x.masked_fill(mask, 0)
    mask[0] = True
    return y


@program(None)
def a_leaf(m, x, z):
    x += 1
    return x


@program(None)
def a_view_of_a_leaf(m, x, z):
    x[0].mul_(2)
    return x


@program(None)
def an_element_of_a_leaf(m, x, z):
    x[0, 1] = 5.0
    return x


@program(None)
def an_expanded_tensor(m, x, z):
    y = (z * 2).expand(2, 3)
    y += 1
    return y


@program(None)
def a_shape_that_does_not_fit(m, x, z):
    y = z * 2
    y += x
    return y


@program(None)
def a_dtype_that_does_not_fit(m, x, z):
    y = m.tensor([1, 2, 3])
    y += z
    return y + z


@program(None)
def a_leaf_through_a_transpose(m, x, z):
    x.T.add_(1)
    return x


@program(None)
def a_leaf_through_a_chain_of_views(m, x, z):
    x.view(-1)[1:][0] = 1.0
    return x


@program(None)
def a_leaf_by_copying(m, x, z):
    z.copy_(x[0])
    return z


@program(None)
def a_leaf_by_filling(m, x, z):
    x.masked_fill_(x > 0, 0.0)
    return x


@program(None)
def both_factors_of_a_matrix_product(m, x, z):
    y = x * 2
    u = y @ y.T
    y.add_(1)
    return u


@program(None)
def the_result_of_sqrt(m, x, z):
    y = (x * x).sqrt()
    y *= 2
    return y + z


@program(None)
def the_result_of_softmax_through_a_row(m, x, z):
    y = x.softmax(-1)
    y[0] = 0
    return y


@program(None)
def a_divisor(m, x, z):
    y = z * 2
    u = x / y
    y += 1
    return u


@program(None)
def a_base_of_powers(m, x, z):
    y = x * 2
    u = y**2
    y[0, 0] = 0
    return u


@program(None)
def rows_read_and_written_in_a_loop(m, x, z):
    y = x * 1
    for k in range(3):
        y[:, k] = y[:, k] * z[k]  # each product has saved a column that it overwrites
    return y

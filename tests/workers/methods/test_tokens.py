import torch

from workers.methods.tokens import predicted_tokens


def test_the_position_before_a_label_predicts_it():
    labels_BT = torch.tensor([[-100, -100, 7, 8], [-100, 5, -100, -100]])
    found = predicted_tokens(labels_BT)
    assert found.rows_N.tolist() == [0, 0, 1]
    assert found.columns_N.tolist() == [1, 2, 0]
    assert found.targets_N.tolist() == [7, 8, 5]


def test_a_label_on_the_first_token_is_predicted_by_nothing():
    assert len(predicted_tokens(torch.tensor([[4, -100]])).targets_N) == 0

import pytest

pytest.register_assert_rewrite("tests.contract.shimlet_contract", "tests.shimlets.process.place")

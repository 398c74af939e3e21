"""The models in ``old/``: ``make_old.py FOLDER``, under each Python that has one of these versions of xgboost.

The files of a version are in `FILES`; those of 0.72 are by Python 2.7. What it predicts stands in ``VERSION.json.gz``.
"""
# ruff: noqa: PTH107, PTH118, PTH123

import gzip
import json
import os
import pickle
import sys

import numpy as np
import xgboost

FILES = {
    "0.72.1": ["logistic.p2", "forest.p0", "linears.bin"],
    "0.90": ["logistic.p3", "pruned.p3", "softprob.p4", "forests.p3", "poisson.bin", "dart.p3", "linear.p1"],
    "1.0.2": ["logistic.p3", "forest.p4"],
    "1.2.1": ["aft.p4", "darts.p4", "pruned.p3"],
    "1.3.3": ["logistic.bin", "huber.bin", "linears.bin", "forest.p4"],
    "1.5.2": ["tweedie.bin", "forest.bin"],
    "1.7.6": ["forest.bin", "dart.bin", "gamma.bin", "logistic.json", "forest.p5"],
    "3.0.5": ["forest.ubj"],
}

TREES = {"max_depth": 3, "eta": 0.5, "seed": 7, "tree_method": "exact"}
FOREST = dict(TREES, num_parallel_tree=2, subsample=0.5)
DART = dict(TREES, booster="dart", rate_drop=0.5, one_drop=1)
LINEAR = {"booster": "gblinear", "updater": "coord_descent", "eta": 0.5, "lambda": 0.1}
SOME = slice(188, None)  # of the rows: those that are predicted
NAMES = ["age", "income", "a b", "d", "e", "f"]

# name: parameters, label, what else xgboost.train is given, feature names
MODELS = {
    "logistic": (dict(TREES, objective="binary:logistic", base_score=0.3, scale_pos_weight=2), "binary", {}, NAMES),
    "pruned": (dict(TREES, objective="reg:squarederror", base_score=10, gamma=4), "real", {}, None),
    "softprob": (dict(TREES, objective="multi:softprob", num_class=3), "class", {}, None),
    "forests": (dict(FOREST, objective="multi:softmax", num_class=3), "class", {"stop": 2}, None),
    "forest": (dict(FOREST, objective="binary:logitraw"), "binary", {"stop": 2}, NAMES),
    "poisson": (dict(TREES, objective="count:poisson"), "count", {}, None),
    "tweedie": (dict(TREES, objective="reg:tweedie", tweedie_variance_power=1.3, base_score=2), "count", {}, None),
    "gamma": (dict(TREES, objective="reg:gamma", base_score=1.5), "positive", {}, None),
    "dart": (dict(DART, objective="binary:logistic"), "binary", {}, None),
    "darts": (dict(DART, objective="multi:softprob", num_class=3), "class", {}, None),
    "linear": (dict(LINEAR, objective="reg:squarederror", base_score=1), "real", {}, None),
    "linears": (dict(LINEAR, objective="multi:softprob", num_class=3), "class", {}, None),
    "huber": (dict(TREES, objective="reg:pseudohubererror"), "real", {}, None),
    "aft": (dict(TREES, objective="survival:aft", aft_loss_distribution="logistic"), "interval", {}, None),
}


def data():
    """Rows with missing values, and a label of each kind."""
    random = np.random.RandomState(1)
    rows = random.normal(size=(200, 6)).astype(np.float32)
    real = rows[:, 0] * 3 + rows[:, 1] * rows[:, 2] + np.abs(rows[:, 3])
    rows[random.uniform(size=rows.shape) < 0.1] = np.nan
    labels = {"real": real, "binary": real > 0, "class": np.digitize(real, [-2, 1]), "count": np.floor(np.abs(real))}
    labels["positive"] = labels["interval"] = np.abs(real) + 0.1
    return rows, {kind: label.astype(np.float32) for kind, label in labels.items()}


def matrix(rows, label, kind, names):
    """Some of the rows, as xgboost has them."""
    found = xgboost.DMatrix(rows, label, feature_names=names)
    if kind == "interval":
        found.set_float_info("label_lower_bound", label)
        found.set_float_info("label_upper_bound", label * 2)
    return found


def short(values):
    """As many digits as a float32 has, in nested lists."""
    return np.array([float(format(value, ".9g")) for value in values.ravel()]).reshape(values.shape).tolist()


def main(folder):
    """Train, save, predict."""
    version = tuple(int(part) for part in xgboost.__version__.split(".")[:2])
    rows, labels = data()
    expected = {}
    for file in FILES[xgboost.__version__]:
        name, form = file.split(".")
        params, kind, options, names = MODELS[name]
        if params["objective"] == "reg:squarederror" and version < (0, 83):
            params = dict(params, objective="reg:linear")
        label = labels[kind]
        valid = matrix(rows[150:], label[150:], kind, names)
        stop = {"early_stopping_rounds": options["stop"], "evals": [(valid, "v")]} if "stop" in options else {}
        train = matrix(rows[:150], label[:150], kind, names)
        booster = xgboost.train(params, train, 30 if stop else 5, verbose_eval=False, **stop)
        limit = {}
        if stop and version >= (1, 4):
            limit = {"iteration_range": (0, booster.best_iteration + 1)}
        elif stop:
            limit = {"ntree_limit": (booster.best_iteration + 1) * params["num_parallel_tree"]}
        elif params.get("booster") == "dart" and version < (1, 0):
            limit = {"ntree_limit": 5}  # without, they drop trees even now
        some = xgboost.DMatrix(rows[SOME], feature_names=names)
        expected[file] = {
            "margin": short(booster.predict(some, output_margin=True, **limit)),
            "prediction": short(booster.predict(some, **limit)),
            "gain": {} if params.get("booster") else booster.get_score(importance_type="gain"),
        }
        path = os.path.join(folder, xgboost.__version__ + "-" + file)
        if form.startswith("p"):
            with open(path, "wb") as out:
                pickle.dump(booster, out, int(form[1]))
        else:
            booster.save_model(path)
        with open(path, "rb") as plain:
            write(path, plain.read())
        os.remove(path)
    text = json.dumps({"rows": short(rows[SOME]), "expected": expected}, sort_keys=True)
    write(os.path.join(folder, xgboost.__version__ + ".json"), text.encode())


def write(path, data):
    """Compressed, and the same whenever it is."""
    with open(path + ".gz", "wb") as out, gzip.GzipFile("", "wb", 9, out, 0) as packed:
        packed.write(data)


if __name__ == "__main__":
    main(sys.argv[1])

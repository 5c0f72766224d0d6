"""Tabular data with scikit-learn: nissl's estimators in pipelines, searches and cross-validation.

Run it with `python examples/tabular_data_with_scikit_learn.py`. It leaves a picture in the folder that it is run in.
"""

import numpy as np
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nissl import plots
from nissl.sklearn import NeuralNetClassifier, NeuralNetRegressor

# Thirteen measurements of 178 wines, of three kinds. Columns are scaled alike, as every neural network wants them.
x, y = load_wine(return_X_y=True)
names = load_wine().target_names[y]  # class names of any type come back from predict
x_train, x_test, y_train, y_test = train_test_split(x, names, test_size=0.3, random_state=0, stratify=names)
classifier = make_pipeline(StandardScaler(), NeuralNetClassifier((32,), max_iter=300, dropout=0.2, random_state=0))
classifier.fit(x_train, y_train)
right = classifier.score(x_test, y_test)
print(f"wine: {right:.1%} of {len(x_test)} right; the first is {classifier.predict(x_test[:1])[0]}")

# A search over what it is made of, each choice tried on three parts of the data.
grid = {"neuralnetclassifier__hidden_layer_sizes": [(8,), (32,)], "neuralnetclassifier__alpha": [1e-4, 1e-1]}
search = GridSearchCV(classifier, grid, cv=3, n_jobs=2).fit(x_train, y_train)
print(f"best of the search: {search.best_params_}, {search.best_score_:.1%}")

# Regression, with early stopping on a validation set of our own, whose curve stands beside that of the training.
x, y = load_diabetes(return_X_y=True)
y = (y - y.mean()) / y.std()
x = StandardScaler().fit_transform(x)
x_train, x_rest, y_train, y_rest = train_test_split(x, y, test_size=0.4, random_state=0)
x_val, x_test, y_val, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=0)
regressor = NeuralNetRegressor(hidden_layer_sizes=(16,), early_stopping=True, max_iter=300, random_state=0)
regressor.fit(x_train, y_train, X_val=x_val, y_val=y_val)
print(f"diabetes: R² {regressor.score(x_test, y_test):.2f} after {regressor.n_iter_} epochs, the best weights kept")
curves = {"loss": regressor.loss_curve_, "validation_loss": regressor.validation_loss_curve_}
plots.save(plots.learning_curves(curves, title="Learning curves: diabetes"), "diabetes.png")

# How sure is the score? Five parts, each held out once.
scores = cross_val_score(
    NeuralNetRegressor(hidden_layer_sizes=(16,), max_iter=500, alpha=1.0, learning_rate_init=0.01, random_state=0),
    x,
    y,
    cv=5,
)
print(f"cross-validation: R² {np.mean(scores):.2f} ± {np.std(scores):.2f}")

import nissl as ns
from nissl import datasets, nn, optim

train, _ = datasets.load("fashion-mnist")
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
history = ns.fit(model, train, optimizer=optim.Adam(model.parameters(), lr=1e-3), epochs=5, batch_size=32)
print(history.loss[-1])

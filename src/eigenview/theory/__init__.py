"""Training dynamics of linear joint embedding: vector fields, closed forms and simulations that explain the methods.

One model per file, in float64 numpy, integrated by scipy. Models are named after the methods they describe.

    simulation.py          the integrator, the record it returns, and checks of arguments
    linear_byol.py         BYOL with linear encoder and predictor, for any second moments of the data
    symmetrised.py         the same for isotropic data: when predictor and embeddings come to share eigenvectors
    eigenvalues.py         the same once they do, one equation per eigenvalue: fixed points and convergence times
    basin.py               the basin of collapse of that equation
    directset.py           DirectPred and DirectCopy, the predictor F^alpha, on a linear encoder
    isoloss.py             BYOL's gradient and IsoLoss with a closed-form predictor
    infonce.py             InfoNCE with a linear encoder
    two_layers.py          any such loss with two linear layers
    modes.py               Barlow Twins with a linear encoder: stepwise learning
    augmentation_graph.py  the augmentation graph, its operator T_M and eigenfunctions
    spectral.py            VICReg's distance, its reformulation and Barlow Twins with free features on that graph
    vicreg.py              the minimum of VICReg as it is trained
    point_cloud.py         an example graph: Gaussian views of images in the plane
"""

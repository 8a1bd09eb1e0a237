"""Problems: per-sample losses with analytic gradients and Hessian-vector products."""

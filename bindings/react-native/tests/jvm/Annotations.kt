package javax.annotation

public annotation class Nonnull

public annotation class Nullable

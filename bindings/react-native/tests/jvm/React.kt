/**
 * As much of React Native and Android as the module touches, for the JVM: the interfaces themselves come from React
 * Native's own sources.
 */
package com.facebook.react.bridge

import java.io.File

public class ReactApplicationContext(public val noBackupFilesDir: File)

public fun interface CxxCallbackImpl {
    public operator fun invoke(vararg arguments: Any?)
}

public abstract class ReactContextBaseJavaModule(context: ReactApplicationContext) : NativeModule {
    protected val reactApplicationContext: ReactApplicationContext = context

    @JvmField protected var mEventEmitterCallback: CxxCallbackImpl? = null

    /** React Native's own sets it before JavaScript gets the module. */
    public fun setEventEmitterCallback(callback: CxxCallbackImpl) {
        mEventEmitterCallback = callback
    }

    public abstract fun getName(): String

    public open fun initialize() {}

    public open fun invalidate() {}
}

public interface NativeModule

public annotation class ReactMethod(val isBlockingSynchronousMethod: Boolean = false)

public interface ReadableMap {
    public fun toHashMap(): HashMap<String, Any?>
}

public interface WritableMap : ReadableMap

public class WritableNativeMap(private val fields: Map<String, Any?>) : WritableMap {
    override fun toHashMap(): HashMap<String, Any?> = HashMap(fields)
}

public class WritableNativeArray(public val items: List<*>)

/** As React Native's: whatever a bridge cannot carry is refused. */
public object Arguments {
    @JvmStatic
    public fun makeNativeMap(objects: Map<String, Any?>?): WritableNativeMap {
        objects.orEmpty().values.forEach(::check)
        return WritableNativeMap(objects.orEmpty())
    }

    @JvmStatic
    public fun makeNativeArray(objects: List<*>?): WritableNativeArray {
        objects.orEmpty().forEach(::check)
        return WritableNativeArray(objects.orEmpty())
    }

    private fun check(value: Any?): Unit = when (value) {
        null, is Boolean, is Int, is Double, is String -> Unit
        is List<*> -> value.forEach(::check)
        is Map<*, *> -> value.values.forEach(::check)
        else -> throw IllegalArgumentException("Could not convert ${value.javaClass}")
    }
}

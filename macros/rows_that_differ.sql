{% macro rows_that_differ(expected, found) %}
    select
        'missing' as problem,
        *
    from (
        select * from {{ expected }}
        except all
        select * from {{ found }}
    )

    union all

    select
        'extra' as problem,
        *
    from (
        select * from {{ found }}
        except all
        select * from {{ expected }}
    )
{% endmacro %}

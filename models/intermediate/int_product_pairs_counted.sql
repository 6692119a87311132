-- A view with dask: the rows stay in the lake.
{{ config(materialized='view' if var('pair_engine') == 'dask' else 'table') }}

with

state as (

    select
        left_product_number,
        right_product_number,
        copurchase_count
    from {{ ref('stg_state_product_pairs') }}

),

{% if var('pair_engine') == 'dask' %}

counted as (

    select * from state

)

{% else %}

added_items as not materialized (

    select
        order_id,
        product_number
    from {{ ref('int_basket_items') }}
    where change > 0

),

removed_items as not materialized (

    select
        order_id,
        product_number
    from {{ ref('int_basket_items') }}
    where change < 0

),

added as (

    {{ pairs_in_baskets('added_items') }}

),

removed as (

    {{ pairs_in_baskets('removed_items') }}

),

-- Joined, not added up: what is small is looked up in one pass over the largest of the three, which
-- takes less than half the time and half the memory.
counted as (

    select
        left_product_number,
        right_product_number,
        (
            coalesce(added.copurchase_count, 0)
            + coalesce(state.copurchase_count, 0)
            - coalesce(removed.copurchase_count, 0)
        )::bigint as copurchase_count
    from added
    full outer join state
        using (left_product_number, right_product_number)
    full outer join removed
        using (left_product_number, right_product_number)
    where
        coalesce(added.copurchase_count, 0) + coalesce(state.copurchase_count, 0)
        <> coalesce(removed.copurchase_count, 0)

)

{% endif %}

select * from counted

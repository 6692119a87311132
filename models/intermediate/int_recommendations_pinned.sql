{{ config(materialized="ephemeral") }} -- a few rows of a seed

with

pinned as (

    select
        product_id,
        recommended_product_id,
        position as pin_position
    from {{ ref('pinned_recommendations') }}
    where {{ as_of_day() }} between {{ first_day() }} and {{ last_day() }}

)

select * from pinned
